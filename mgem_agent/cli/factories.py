"""From settings to the things themselves: reasoner, generator, store, sessions, agent.

Names go through the registries that there are, those of LangChain's providers and of the entry points of
`mgem_agent.tools`; no setting names code to be imported.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.artifacts import ArtifactStore
    from mgem_agent.sessions.sessions import Sessions
    from mgem_agent.settings import Settings
    from mgem_agent.tools import ImageGenerator

__all__ = [
    "go_offline",
    "open_agent",
    "open_generator",
    "open_named_generator",
    "open_reasoner",
    "open_sessions",
    "open_store",
    "prepare_reasoner",
]


def go_offline(settings: Settings) -> None:
    """Keep the libraries from fetching anything, if that is settled; before any of them is imported."""
    if settings.offline:
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")


def open_reasoner(settings: Settings) -> BaseChatModel:
    """Return the reasoner; no weights are loaded and no server is asked yet.

    Args:
        settings: `model` and `model_options` count.

    Raises:
        InputError: If there is none of that name.
    """
    go_offline(settings)
    from mgem_agent.reasoners import make_reasoner

    return make_reasoner(settings.model, **settings.model_options)


def prepare_reasoner(settings: Settings, reasoner: BaseChatModel) -> None:
    """Fetch the language model of `nano` where it is not here yet, which nothing else of a turn should wait for.

    Its bar has the terminal for itself so, and where it cannot be had no turn is begun that cannot go on.

    Args:
        settings: `model_options` count.
        reasoner: What reasons; any other than nano is ready.

    Raises:
        CheckpointError: If it is not here and cannot be had.
    """
    if getattr(reasoner, "model", None) != "nano":
        return
    from mgem_agent.nano.language_model import find_language_model

    options = settings.model_options
    find_language_model(options.get("language_model"), offline=options.get("offline"))


def open_generator(settings: Settings) -> ImageGenerator:
    """Return what draws; no weights are loaded and no server is asked yet.

    Args:
        settings: `generator` and `generator_options` count.

    Raises:
        InputError: If there is none of that name, or it has no such option.
        GeneratorUnavailableError: If the package that it comes from is broken.
    """
    return open_named_generator(settings, settings.generator)


def open_named_generator(settings: Settings, name: str) -> ImageGenerator:
    """Return a generator by its name; the options that are settled are for the one that is settled.

    Args:
        settings: `generator`, `generator_options` and `offline` count.
        name: As for `make_generator`.

    Raises:
        InputError: As for `open_generator`.
        GeneratorUnavailableError: As there.
    """
    go_offline(settings)
    from mgem_agent.tools import make_generator

    return make_generator(name, **(settings.generator_options if name == settings.generator else {}))


def open_store(settings: Settings) -> ArtifactStore:
    """Return where pictures are kept.

    Args:
        settings: `store` counts.
    """
    from mgem_agent.artifacts import ArtifactStore

    return ArtifactStore(settings.store)


def open_sessions(settings: Settings) -> Sessions:
    """Return where sessions are kept; to be closed in the end.

    Args:
        settings: `sessions` counts.

    Raises:
        InputError: If the folder cannot be written, or the database cannot be reached.
        MissingDependencyError: If the driver of the database is not installed.
    """
    from mgem_agent.sessions.sessions import Sessions

    place = settings.sessions
    if place is not None and "://" in place:
        return Sessions.postgres(place)
    return Sessions.at(None if place is None else user_path(place))


def open_agent(settings: Settings, **overrides: Any) -> MgemAgent:
    """Return the agent that is settled.

    Args:
        settings: All of them count but `images`.
        **overrides: Arguments of `MgemAgent` that go before the settings: `reasoner`, `generator`, `store`,
            `sessions`, `draw`, …

    Raises:
        InputError: As for its parts.
    """
    go_offline(settings)
    from mgem_agent.agent.agent import MgemAgent

    arguments: dict[str, Any] = {
        "draw": settings.draw,
        "look": settings.look,
        "confirm": settings.confirm,
        "max_pictures": settings.max_pictures,
        "timeout_s": settings.timeout_s,
        "defaults": settings.draw_defaults,
        "system_prompt": settings.system_prompt,
        "sees": settings.sees,
        "max_context_tokens": settings.max_context_tokens,
        "max_context_pictures": settings.max_context_pictures,
        "max_history_turns": settings.max_history_turns,
        **overrides,
    }
    parts = {"reasoner": open_reasoner, "generator": open_generator, "store": open_store, "sessions": open_sessions}
    for name, opener in parts.items():
        if name not in arguments:
            arguments[name] = opener(settings)
    return MgemAgent(**arguments)
