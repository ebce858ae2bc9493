"""Fixtures for pytest: agents, reasoners and generators that need no weights and no network.

Named in a `conftest.py`, never found by itself, so that it costs those nothing who do not ask for it. In the file
at the root of the tests stands::

    pytest_plugins = ["mgem_agent.testing.pytest_plugin"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.artifacts import ArtifactStore
    from mgem_agent.testing.flat_colour_generator import FlatColourGenerator
    from mgem_agent.testing.scripted_reasoner import ScriptedReasoner

__all__ = ["artifact_store", "flat_colour_generator", "make_mgem_agent", "scripted_reasoner"]


@pytest.fixture
def scripted_reasoner() -> Callable[..., ScriptedReasoner]:
    """Make a reasoner that says the lines it is called with: `scripted_reasoner("Here: <h> a red fox </h>")`.

    Keywords are fields of `ScriptedReasoner`.
    """
    from mgem_agent.testing.scripted_reasoner import ScriptedReasoner

    def make(*lines: Any, **fields: Any) -> ScriptedReasoner:
        return ScriptedReasoner(script=lines, **fields)

    return make


@pytest.fixture
def flat_colour_generator() -> FlatColourGenerator:
    """Draw coloured cards of 64 × 64 pixels, and keep a list of what was drawn in `drawn`."""
    from mgem_agent.testing.flat_colour_generator import FlatColourGenerator

    return FlatColourGenerator(size=(64, 64))


@pytest.fixture
def artifact_store(tmp_path: Path) -> ArtifactStore:
    """Keep pictures in a folder of this test alone."""
    from mgem_agent.artifacts import ArtifactStore

    return ArtifactStore(tmp_path / "images")


@pytest.fixture
def make_mgem_agent(
    scripted_reasoner: Callable[..., ScriptedReasoner],
    flat_colour_generator: FlatColourGenerator,
    artifact_store: ArtifactStore,
) -> Iterator[Callable[..., MgemAgent]]:
    """Make an agent that says the lines it is called with, draws cards, and forgets its sessions in the end.

    Keywords are arguments of `MgemAgent`, and go before these: `make_mgem_agent("<h> a fox </h>", confirm=True)`.
    """
    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.sessions.sessions import Sessions

    with ExitStack() as closing:

        def make(*lines: Any, **arguments: Any) -> MgemAgent:
            sessions = Sessions.in_memory()
            closing.callback(sessions.close)
            given: dict[str, Any] = {
                "reasoner": scripted_reasoner(*lines),
                "generator": flat_colour_generator,
                "store": artifact_store,
                "sessions": sessions,
            }
            return MgemAgent(**(given | arguments))

        yield make
