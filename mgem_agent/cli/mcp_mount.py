"""Offer MCP on the server of `mgem serve`: the same users, pictures, generators and queue."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgem_agent.mcp.parts import McpParts
    from mgem_agent.server.app import Mount
    from mgem_agent.server.security import User
    from mgem_agent.server.service import AgentService

__all__ = ["mcp_mount"]


def mcp_mount(service: AgentService) -> Mount:
    """Return the routes of MCP over streamable HTTP, at `/mcp`.

    Args:
        service: The parts of the server.
    """
    from mgem_agent.mcp.http import mcp_app
    from mgem_agent.server.app import Mount
    from mgem_agent.server.security import LOCAL_USER

    made: dict[str, McpParts] = {}
    lock = threading.Lock()

    def parts_of(request: Any) -> McpParts:
        user = LOCAL_USER if request is None else service.user(request)
        with lock:
            if user.namespace not in made:
                made[user.namespace] = _parts(service, user)
            return made[user.namespace]

    max_body_bytes = int(service.settings.max_body_mb * 1_000_000)
    app = mcp_app(parts_of, max_body_bytes=max_body_bytes)
    return Mount(app.routes, lambda: app.router.lifespan_context(app), app.state.end_streams)


def _parts(service: AgentService, user: User) -> McpParts:
    """Return what MCP works with for one user. All drawing is a job of the server's queue."""
    from mgem_agent.mcp.books import Books
    from mgem_agent.mcp.parts import McpParts
    from mgem_agent.tools.prices import Prices
    from mgem_agent.workflows.story_shelf import StoryShelf

    async def run(kind: str, work: Any, *, title: str = "", on_cancel: Any = None) -> Any:
        return await service.jobs.run(user, kind, work, title=title, on_cancel=on_cancel)

    config, store = service.config, service.store(user)
    return McpParts(
        generators=service.generators.names,
        make_generator=service.generators.get,
        store=store,
        books=Books(StoryShelf.beside(store)),  # the same as on the page
        reasoner=lambda: service.reasoner,
        sees=config.sees is not False,
        defaults=config.draw_defaults,
        confirm=config.confirm,
        budgets=config.budgets,
        prices=Prices(config.prices),
        story_options=service.story_options,
        run=run,
    )
