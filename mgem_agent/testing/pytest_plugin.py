"""Fixtures for pytest: agents, reasoners and generators that need no weights and no network.

It is not loaded automatically, so it costs nothing if it is not used. Name it in the `conftest.py` at the root of your
tests::

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
    """Create a reasoner that answers with the given lines: `scripted_reasoner("Here: <h> a red fox </h>")`.

    Keyword arguments are fields of `ScriptedReasoner`.
    """
    from mgem_agent.testing.scripted_reasoner import ScriptedReasoner

    def make(*lines: Any, **fields: Any) -> ScriptedReasoner:
        return ScriptedReasoner(script=lines, **fields)

    return make


@pytest.fixture
def flat_colour_generator() -> FlatColourGenerator:
    """Draw coloured cards of 64 × 64 pixels, and record the requests in `drawn`."""
    from mgem_agent.testing.flat_colour_generator import FlatColourGenerator

    return FlatColourGenerator(size=(64, 64))


@pytest.fixture
def artifact_store(tmp_path: Path) -> ArtifactStore:
    """Store pictures in a temporary folder of this test."""
    from mgem_agent.artifacts import ArtifactStore

    return ArtifactStore(tmp_path / "images")


@pytest.fixture
def make_mgem_agent(
    scripted_reasoner: Callable[..., ScriptedReasoner],
    flat_colour_generator: FlatColourGenerator,
    artifact_store: ArtifactStore,
) -> Iterator[Callable[..., MgemAgent]]:
    """Create an agent that answers with the given lines, draws cards, and discards its sessions after the test.

    Keyword arguments are those of `MgemAgent` and override the defaults:
    `make_mgem_agent("<h> a fox </h>", confirm=True)`.
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
