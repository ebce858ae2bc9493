"""An MCP server over fakes, and a client of the official SDK connected to it, in each version of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import ElicitRequestParams, ElicitResult, Implementation
from sse_starlette.sse import AppStatus

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.mcp import Books, McpParts, make_server
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

MODES = {"2026-07-28": "auto", "2025-11-25": "legacy"}
"""How the client connects, by the version of the protocol that it then speaks."""


@pytest.fixture(autouse=True)
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget servers that other tests stopped: a stop ends every event stream of the process."""
    monkeypatch.setattr(AppStatus, "should_exit", False)


class ChargedGenerator(FlatColourGenerator):
    """A generator that costs money."""

    costs_money = True

    @property
    def name(self) -> str:
        return "charged"


class Person:
    """A person at the client: fills the forms of a list in order, and notes the questions."""

    def __init__(self, *forms: dict[str, Any] | None) -> None:
        self.forms = list(forms)
        self.questions: list[ElicitRequestParams] = []

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params)
        form = self.forms.pop(0)
        return ElicitResult(action="decline") if form is None else ElicitResult(action="accept", content=form)


@pytest.fixture(params=MODES)
def version(request: pytest.FixtureRequest) -> str:
    """The version of the protocol."""
    return request.param


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "pictures")


@pytest.fixture
def charged() -> FlatColourGenerator:
    """A generator that costs money."""
    return ChargedGenerator(size=(48, 32))


@pytest.fixture
def person() -> type[Person]:
    """Makes a person, from the forms that they fill; None refuses."""
    return Person


@pytest.fixture
def make_parts(tmp_path: Path, store: ArtifactStore, charged: FlatColourGenerator) -> Callable[..., McpParts]:
    """Makes the parts of a server; the script of its reasoner is given by lines."""

    def make(*script: str, **given: Any) -> McpParts:
        made = {"flat": FlatColourGenerator(size=(48, 32)), "charged": charged, **given.pop("made", {})}
        reasoner = ScriptedReasoner(script=script, is_endless=True)
        defaults: dict[str, Any] = {
            "generators": ("flat", "charged"),
            "make_generator": made.__getitem__,
            "store": store,
            "books": Books(tmp_path / "books"),
            "reasoner": (lambda: reasoner) if script else None,
        }
        return McpParts(**{**defaults, **given})

    return make


@pytest.fixture
def connect(version: str) -> Callable[..., Client]:
    """Connects a client to a server with some parts, in a version of the protocol."""

    def make(parts: McpParts, answering: Person | None = None) -> Client:
        named = Implementation(name="tests", version="1")
        return Client(make_server(parts), mode=MODES[version], elicitation_callback=answering, client_info=named)

    return make
