"""The page in the browser: a chat with pictures, a gallery and a desk for stories."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.server.page.routes import page_router

__all__ = ["page_router"]

__getattr__, __dir__ = attach(__name__, {"page_router": "mgem_agent.server.page.routes"})
