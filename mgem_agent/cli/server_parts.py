"""Create the parts of a server that the settings describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgem_agent.server.service import AgentService
    from mgem_agent.settings import Settings

__all__ = ["open_service"]


def open_service(settings: Settings, generators: list[str] | None = None, **parts: Any) -> AgentService:
    """Return the parts of a server.

    Args:
        settings: All settings.
        generators: Names of the generators that clients may use; the configured one if empty.
        **parts: `reasoner`, `make_generator`, `store` or `sessions` to use instead of those that the settings name.

    Raises:
        InputError: If a setting is not valid.
    """
    from mgem_agent.cli.factories import (
        open_named_generator,
        open_page_scoring,
        open_reasoner,
        open_sessions,
        open_store,
        prepare_reasoner,
    )
    from mgem_agent.server.security import open_access
    from mgem_agent.server.service import AgentService

    settings = settings.model_copy(update={"use_server": False})  # a server holds its own models
    access = open_access(settings.server)
    if "reasoner" not in parts:
        parts["reasoner"] = open_reasoner(settings)
        prepare_reasoner(settings, parts["reasoner"])
    service = AgentService(
        settings,
        reasoner=parts["reasoner"],
        generators=generators or [settings.generator],
        make_generator=parts.get("make_generator") or (lambda name: open_named_generator(settings, name)),
        store=parts["store"] if "store" in parts else open_store(settings),
        sessions=parts["sessions"] if "sessions" in parts else open_sessions(settings),
        access=access,
        story_options=lambda judge: open_page_scoring(settings, judge),
    )
    for name in service.generators.names:
        service.generators.get(name)  # an unknown name is an error now, and not at the first request
    return service
