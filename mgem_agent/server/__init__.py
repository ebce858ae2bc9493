"""The agent over HTTP: the protocols of OpenAI, and a page in the browser.

Heavy packages are imported only when a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.server.app import Mount, create_app
    from mgem_agent.server.service import AgentService
    from mgem_agent.server.serving import serve

__all__ = ["AgentService", "Mount", "create_app", "serve"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "AgentService": "mgem_agent.server.service",
        "Mount": "mgem_agent.server.app",
        "create_app": "mgem_agent.server.app",
        "serve": "mgem_agent.server.serving",
    },
)
