"""Two agents with the same scripted reasoner and the same generator: ours, and a bare one of LangChain's.

The bare one is `langchain.agents.create_agent` with a short drawing tool and its dialogue in one thread of a
checkpointer. Both store checkpoints in SQLite with the same settings, call the model twice a turn, and draw and store
the same picture in the same way. So only the agent differs.
"""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from langchain.agents import create_agent
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.sqlite import SqliteSaver

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.errors import GeneratorOutputError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import ScriptedReasoner
from mgem_agent.tools import ImageGenerator, ImageRequest, ImageResult, draw

__all__ = ["BareAgent", "OurAgent", "used_bytes"]

CLOSING = "There it is, as you asked for it."


def scripted_scenes(num_captions: int = 1) -> ScriptedReasoner:
    """Return a reasoner that answers each turn twice: with unique captions, and then in words.

    Args:
        num_captions: Captions of the first answer.
    """
    number = itertools.count(1)

    def scenes(_: Any) -> str:
        return " ".join(f"Here it is. <h> a red fox in the snow, {next(number)} </h>" for _ in range(num_captions))

    return ScriptedReasoner(script=[scenes, CLOSING], is_endless=True)


class OurAgent:
    """Our agent, in a folder.

    Args:
        folder: Folder of pictures and sessions; existing ones are continued.
        generator: The generator.
        num_captions: Pictures of a turn.
    """

    def __init__(self, folder: Path, generator: ImageGenerator, *, num_captions: int = 1) -> None:
        self.database = folder / "sessions" / "sessions.sqlite"
        self._sessions = Sessions.at(self.database.parent)
        self._agent = MgemAgent(
            scripted_scenes(num_captions),
            generator,
            store=ArtifactStore(folder / "images"),
            sessions=self._sessions,
            max_pictures=max(num_captions, 1),
            answer_tools=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sessions.close()

    def turn(self, session: str) -> int:
        """Run a turn and return the number of pictures."""
        return len(self._agent.invoke("Draw me a fox.", session=session).pictures)

    def begin_turn(self, session: str) -> Any:
        """Start a turn, wait for its first event, and return the remaining events."""
        events = self._agent.stream("Draw me a fox.", session=session)
        next(events)
        return events


class BareAgent:
    """A bare agent, in a folder; arguments as for `OurAgent`."""

    def __init__(self, folder: Path, generator: ImageGenerator) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database = folder / "bare.sqlite"
        self._closing = ExitStack()
        connection = sqlite3.connect(self.database, check_same_thread=False)
        self._closing.callback(connection.close)
        connection.execute("PRAGMA synchronous=NORMAL")  # like our sessions
        checkpointer = SqliteSaver(connection)
        checkpointer.setup()
        self._agent: Any = create_agent(
            scripted_scenes(), [_drawing_tool(generator, ArtifactStore(folder / "images"))], checkpointer=checkpointer
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.close()

    def turn(self, session: str) -> int:
        """Run a turn and return the number of pictures."""
        said = self._agent.invoke(
            {"messages": [{"role": "user", "content": "Draw me a fox."}]}, {"configurable": {"thread_id": session}}
        )["messages"]
        latest = list(itertools.takewhile(lambda message: message.type != "human", reversed(said)))
        return sum(message.type == "tool" and str(message.content).startswith("Drawn") for message in latest)


def _drawing_tool(generator: ImageGenerator, store: ArtifactStore) -> BaseTool:
    @tool
    def generate_image(prompt: str) -> str:
        """Draw a picture."""
        [*_, result] = draw(generator, [ImageRequest(prompt=prompt)])
        if not isinstance(result, ImageResult):
            raise GeneratorOutputError("The scripted generator gave no result.")
        return f"Drawn: {store.put(result).id}"

    return generate_image


def used_bytes(database: Path) -> int:
    """Return the used bytes of a SQLite database, without free pages."""
    connection = sqlite3.connect(database)
    try:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    finally:
        connection.close()
    return int((pages - free) * size)
