"""Create the reasoner, generator, store, sessions and agent that the settings name.

Names are looked up in registries: LangChain's providers and the entry points of `mgem_agent.tools`. A setting can never
name code to import.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_core.language_models import BaseChatModel

    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.artifacts import ArtifactStore
    from mgem_agent.resident.running_server import RunningServer
    from mgem_agent.sessions.sessions import Sessions
    from mgem_agent.settings import Settings
    from mgem_agent.tools import ImageGenerator, Meter
    from mgem_agent.tools.budget import BudgetScope
    from mgem_agent.workflows.page_scoring import PageEncoder

__all__ = [
    "budget_flags",
    "go_offline",
    "open_agent",
    "open_generator",
    "open_meter",
    "open_named_generator",
    "open_page_scoring",
    "open_reasoner",
    "open_sessions",
    "open_store",
    "prepare_reasoner",
    "server_with",
    "share_device",
]


def go_offline(settings: Settings) -> None:
    """Put the hub libraries into offline mode if `offline` is set; call this before they are imported."""
    if settings.offline:
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")


def share_device(settings: Settings) -> None:
    """Set how the models of this process share the memory of their device.

    Args:
        settings: `memory_policy` and `memory_limit_gib` are used.
    """
    from mgem_agent.device_memory.arbiter import shared_arbiter

    limit = settings.memory_limit_gib
    shared_arbiter().configure(settings.memory_policy, None if limit is None else int(limit * 2**30))


def budget_flags(text: str | None, scope: BudgetScope) -> dict[str, str] | None:
    """Return the setting `budget` for an option `--budget`.

    Args:
        text: Value of the option.
        scope: Scope of the amounts that name none: what the command makes.

    Raises:
        InputError: If it is not a budget.
    """
    if text is None:
        return None
    from mgem_agent.tools.budget import Budgets

    budgets = Budgets.parse(text, scope)
    found = {name: getattr(budgets, name) for name in ("turn", "session", "book")}
    return {name: str(budget) for name, budget in found.items() if budget}


def open_reasoner(settings: Settings) -> BaseChatModel:
    """Return the reasoner. No weights are loaded and no server is contacted yet.

    Args:
        settings: `model` and `model_options` are used.

    Raises:
        InputError: If there is no reasoner of that name.
    """
    go_offline(settings)
    share_device(settings)
    from mgem_agent.reasoners import make_reasoner

    made = make_reasoner(settings.model, **settings.model_options)
    server = server_with("reasoner", settings, settings.model, settings.model_options)
    if server is not None:
        from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
        from mgem_agent.resident.text_engine import make_resident_engine

        if isinstance(made, ChatMiniGemini):
            address = server.address
            made.engine_factory = lambda name: make_resident_engine(address)
    return made


def server_with(
    kind: Literal["reasoner", "generator"], settings: Settings, name: str, options: Mapping[str, Any]
) -> RunningServer | None:
    """Return a running server that holds a model in memory; None if there is none, or it is not to be used.

    The first command that uses a server says so.

    Args:
        kind: What the model is.
        settings: `use_server` is used.
        name: Name of the model in the settings.
        options: Its options.
    """
    if not settings.use_server:
        return None
    from mgem_agent.resident.running_server import find_server, first_use

    found = find_server(kind, name, options)
    if found is not None and first_use(found):
        from mgem_agent.cli.printing import open_console

        open_console(stderr=True).print(
            f"Using the models of mgem serve at {found.address}. To load them in each command instead: mgem config set "
            "use_server false",
            style="dim",
            markup=False,
            soft_wrap=True,
        )
    return found


def prepare_reasoner(settings: Settings, reasoner: BaseChatModel) -> None:
    """Download nano's language model before a turn starts, if it is missing.

    Downloading first gives the progress bar the whole terminal, and a failed download leaves no half-started turn.

    Args:
        settings: `model_options` are used.
        reasoner: The reasoner. Nothing is done for any other than nano.

    Raises:
        CheckpointError: If the language model is missing and cannot be downloaded.
    """
    if getattr(reasoner, "model", None) != "nano":
        return
    from mgem_agent.nano.language_model import find_language_model

    options = settings.model_options
    find_language_model(options.get("language_model"), offline=options.get("offline"))


def open_generator(settings: Settings) -> ImageGenerator:
    """Return the image generator. No weights are loaded and no server is contacted yet.

    Args:
        settings: `generator` and `generator_options` are used.

    Raises:
        InputError: If there is no generator of that name, or it has no such option.
        GeneratorUnavailableError: If the generator's package is broken.
    """
    return open_named_generator(settings, settings.generator)


def open_named_generator(settings: Settings, name: str) -> ImageGenerator:
    """Return a generator by its name, with its own options of `generator_options`.

    Args:
        settings: `generator`, `generator_options` and `offline` are used.
        name: As for `make_generator`.

    Raises:
        InputError: As for `open_generator`.
        GeneratorUnavailableError: As for `open_generator`.
    """
    go_offline(settings)
    share_device(settings)
    options = settings.options_of(name)
    server = server_with("generator", settings, name, options)
    if server is not None:
        from mgem_agent.resident.generator import ResidentGenerator
        from mgem_agent.resident.running_server import model_key

        return ResidentGenerator(server.address, server.generators[model_key("generator", name, options)])
    from mgem_agent.tools import make_generator

    return make_generator(name, **options)


def open_meter(settings: Settings) -> Meter:
    """Return a meter for one command that draws.

    Args:
        settings: The budget of a turn and the prices are used.
    """
    from mgem_agent.tools import Budgets, Meter, Prices

    return Meter(Budgets(turn=settings.budgets.turn), Prices(settings.prices))


def open_page_scoring(settings: Settings, judge: Callable[[], BaseChatModel] | None) -> dict[str, Any]:
    """Return the arguments of `Storyteller` for scores of pages; none if no setting asks for scores.

    Args:
        settings: `look` and the table `story` are used.
        judge: Returns the chat model that scores; None if there is none.

    Raises:
        InputError: If there is no such encoder.
    """
    if not settings.scores_pages:
        return {}
    found: dict[str, Any] = {"look": settings.look, "scores": settings.story.scores}
    if settings.story.encoder != "none":
        found["encoder"] = _encoder(settings.story.encoder)
    return found | ({"judge": judge()} if judge is not None else {})


@lru_cache(maxsize=1)
def _encoder(name: str) -> PageEncoder:
    """Return a picture encoder; a server loads it once."""
    from mgem_agent.recipes.eval.story.encoders import make_encoder

    return make_encoder(name)


def open_store(settings: Settings) -> ArtifactStore:
    """Return the picture store.

    Args:
        settings: `store` is used.
    """
    from mgem_agent.artifacts import ArtifactStore

    return ArtifactStore(settings.store)


def open_sessions(settings: Settings) -> Sessions:
    """Return the session storage; the caller closes it.

    Args:
        settings: `sessions` is used.

    Raises:
        InputError: If the folder is not writable, or the database cannot be reached.
        MissingDependencyError: If the database driver is not installed.
    """
    from mgem_agent.sessions.sessions import Sessions

    place = settings.sessions
    if place is not None and "://" in place:
        return Sessions.postgres(place)
    return Sessions.at(None if place is None else user_path(place))


def open_agent(settings: Settings, **overrides: Any) -> MgemAgent:
    """Return the agent that the settings describe.

    Args:
        settings: All settings except `images` are used.
        **overrides: Arguments of `MgemAgent` that override the settings: `reasoner`, `generator`, `store`,
            `sessions`, `draw`, …

    Raises:
        InputError: As for the functions above.
    """
    go_offline(settings)
    share_device(settings)
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
        "budget": settings.budgets,
        "prices": settings.prices,
        **overrides,
    }
    parts = {"reasoner": open_reasoner, "generator": open_generator, "store": open_store, "sessions": open_sessions}
    for name, opener in parts.items():
        if name not in arguments:
            arguments[name] = opener(settings)
    return MgemAgent(**arguments)
