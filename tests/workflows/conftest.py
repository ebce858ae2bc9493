"""An author whose answers follow the question, and a storyteller with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.workflows.storytelling import Storyteller

ANSWERS = {
    "Write the title": "The Dragon and the Knight",
    "Plan a ": "1. The fire: A dragon spits fire over the desert.\n2. The knight: Bors walks through the smoke.\n"
    "3. The end: The dragon and Bors share a fire.",
    "Who appears": "Ember: a huge red dragon with golden eyes\nBors: a tall man in dented silver armour",
    "What does its picture show?": "A wide desert under a red sky, #.",
    "What does ": "a huge red dragon",
    "Write the text of number": "The desert burned that night. Nobody slept.",
}


class Author:
    """Answers a story's questions by how they begin, and remembers them.

    Attributes:
        answers: What is said to a question in which the key stands; the first key counts, and `#` becomes a number.
        asked: Every question.
    """

    def __init__(self, **_: Any) -> None:
        self.answers: dict[str, Any] = dict(ANSWERS)
        self.asked: list[str] = []

    def __call__(self, request: TextRequest) -> str:
        content = request.dialogue[-1]["content"]
        question = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        self.asked.append(question)
        answer = next((said for key, said in self.answers.items() if key in question), "")
        said = str(answer(question)) if callable(answer) else str(answer)
        return said.replace("#", str(len(self.asked)))


@pytest.fixture
def author() -> Author:
    """What writes the stories of a test."""
    return Author()


@pytest.fixture
def teller(author: Author, tmp_path: Path) -> Callable[..., Storyteller]:
    """Makes a storyteller in one folder, with any generator."""

    def make(generator: Any = None, **options: Any) -> Storyteller:
        reasoner = ScriptedReasoner(script=[author], is_endless=True)
        chosen = generator if generator is not None else FlatColourGenerator(size=(32, 32))
        return Storyteller(reasoner, chosen, ArtifactStore(tmp_path / "store"), folder=tmp_path / "book", **options)

    return make


@pytest.fixture
def agent_of(tmp_path: Path) -> Callable[..., MgemAgent]:
    """Makes an agent whose reasoner follows a script."""

    def make(*script: Any, generator: Any = None, **options: Any) -> MgemAgent:
        return MgemAgent(
            ScriptedReasoner(script=list(script)),
            generator if generator is not None else FlatColourGenerator(size=(32, 32)),
            store=ArtifactStore(tmp_path / "store"),
            sessions=Sessions.in_memory(),
            **options,
        )

    return make
