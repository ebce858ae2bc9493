"""The agent as tools and resources of the Model Context Protocol (MCP).

Heavy packages are imported only when a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.mcp.books import Books
    from mgem_agent.mcp.http import mcp_app
    from mgem_agent.mcp.parts import McpParts
    from mgem_agent.mcp.server import make_server
    from mgem_agent.mcp.stdio import serve_stdio

__all__ = ["Books", "McpParts", "make_server", "mcp_app", "serve_stdio"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Books": "mgem_agent.mcp.books",
        "McpParts": "mgem_agent.mcp.parts",
        "make_server": "mgem_agent.mcp.server",
        "mcp_app": "mgem_agent.mcp.http",
        "serve_stdio": "mgem_agent.mcp.stdio",
    },
)
