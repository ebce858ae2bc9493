"""Parts of an agent by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgem_agent import ChatMiniGemini, MgemAgent
from mgem_agent.agent.named_parts import generator_of, reasoner_of
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.nano import NanoGenerator
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


def test_names_are_those_of_the_command_line(tmp_path: Path) -> None:
    MgemAgent("nano", "nano", store=ArtifactStore(tmp_path), sessions=Sessions.in_memory())
    assert isinstance(reasoner_of("nano"), ChatMiniGemini)
    assert isinstance(generator_of("nano"), NanoGenerator)


def test_what_is_made_is_taken_as_it_is() -> None:
    reasoner, generator = ScriptedReasoner(script=[]), FlatColourGenerator()
    assert (reasoner_of(reasoner), generator_of(generator)) == (reasoner, generator)


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (reasoner_of, 5, r"^The reasoner is a 'int'\. Give a LangChain chat model, or a name such as 'nano'"),
        (reasoner_of, "nanoo", r"^There is no reasoner 'nanoo'"),
        (generator_of, None, r"^The generator is a 'NoneType'\. Give an image generator, or a name such as 'nano'"),
        (generator_of, "nanoo", r"'nanoo'"),
    ],
)
def test_what_is_neither_is_refused(make: Any, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(given)
