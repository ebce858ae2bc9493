"""The state of a chat: the agent, its session and the user's settings.

Commands change this state, and messages use it. When a setting changes, a new agent is created with the same store,
the same sessions and, where possible, the same loaded models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mgem_agent.cli import factories
from mgem_agent.cli.display.run_turn import Decide, run_turn
from mgem_agent.cli.typed_path import find_picture
from mgem_agent.errors import InputError
from mgem_agent.settings import load_settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from rich.console import Console

    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.agent.events import AgentEvent, Turn
    from mgem_agent.artifacts import ArtifactStore
    from mgem_agent.cli.chat.steering import SteeredGenerator
    from mgem_agent.cli.display.contract import TurnDisplay
    from mgem_agent.cli.display.pictures import PictureWindow
    from mgem_agent.sessions.sessions import Sessions
    from mgem_agent.settings import Settings
    from mgem_agent.tools import ImageGenerator, ImageRequest

__all__ = ["Chat", "ChatUI"]

REASONER_SETTINGS = ("model", "model_options")
GENERATOR_SETTINGS = ("generator", "generator_options")
FIXED_SETTINGS = ("store", "sessions", "images", "offline")


@dataclass
class ChatUI:
    """The user interface of a chat.

    Attributes:
        console: Console for answers.
        display: Shows turns.
        window: Shows pictures.
        decide: Asks the user to confirm captions.
        edit: Asks the user a question, with a default answer to edit; returns None without an answer.
        ask_text: Opens an editor for a longer text; None without a terminal.
    """

    console: Console
    display: TurnDisplay
    window: PictureWindow
    decide: Decide
    edit: Callable[[str, str], str | None]
    ask_text: Callable[[str], str | None] | None = None


@dataclass
class Chat:
    """A dialogue.

    Attributes:
        flags: Settings given on the command line or by a command.
        settings: All settings in effect.
        session: Name of the session.
        sessions: Session storage.
        store: Picture store.
        reasoner: The reasoner.
        generator: The image generator.
        agent: The agent that is built from these parts.
        attached: Ids of the pictures for the next message.
        is_over: Whether the user has quit.
    """

    flags: dict[str, Any]
    settings: Settings
    session: str
    sessions: Sessions
    store: ArtifactStore
    reasoner: BaseChatModel
    generator: SteeredGenerator
    agent: MgemAgent
    attached: list[str] = field(default_factory=list)
    is_over: bool = False
    _numbers: dict[str, int] = field(default_factory=dict)
    _known: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, flags: Mapping[str, Any], session: str, **parts: Any) -> Chat:
        """Open a dialogue with the parts that the settings name.

        Args:
            flags: Settings from the command line.
            session: Name of the session.
            **parts: `reasoner`, `generator`, `store` or `sessions` to use instead.
        """
        from mgem_agent.cli.chat.steering import SteeredGenerator

        settings = load_settings(**flags)
        store = parts.get("store") or factories.open_store(settings)
        sessions = parts.get("sessions") or factories.open_sessions(settings)
        reasoner = parts.get("reasoner") or factories.open_reasoner(settings)
        generator = SteeredGenerator(parts.get("generator") or factories.open_generator(settings), store)
        agent = factories.open_agent(settings, reasoner=reasoner, generator=generator, store=store, sessions=sessions)
        return cls(dict(flags), settings, session, sessions, store, reasoner, generator, agent)

    def change(self, name: str, value: Any) -> None:
        """Change a setting for the rest of the dialogue.

        Args:
            name: Name of the setting, such as `picture.width`.
            value: New value; None resets the setting to the configured value.

        Raises:
            InputError: If the value is not valid; nothing is changed then.
        """
        first, _, rest = name.partition(".")
        flags = dict(self.flags)
        if rest:
            flags[first] = {**dict(flags.get(first) or {}), rest: value}
        else:
            flags[first] = value
        settings = load_settings(**flags)
        if first in FIXED_SETTINGS:
            raise InputError(f"{first!r} cannot be changed during a chat. Leave, and start a new one with --{first}.")
        reasoner, inner = self.reasoner, self.generator.inner
        if first in REASONER_SETTINGS:
            reasoner = factories.open_reasoner(settings)
        elif first in GENERATOR_SETTINGS:
            inner = factories.open_generator(settings)
        self._remake(settings, reasoner, inner)
        self.flags = flags

    def _remake(self, settings: Settings, reasoner: BaseChatModel, inner: ImageGenerator) -> None:
        old = self.generator.inner
        self.generator.inner = inner
        try:
            self.agent = factories.open_agent(
                settings, reasoner=reasoner, generator=self.generator, store=self.store, sessions=self.sessions
            )
        except InputError:
            self.generator.inner = old
            raise
        self.settings, self.reasoner = settings, reasoner
        if old is not inner:
            old.unload()

    def say(self, text: str, ui: ChatUI, *, draw: Any = None) -> Turn | None:
        """Run a turn with the user's message and the attached pictures.

        Raises:
            InputError: If the last turn is unfinished, or as for `MgemAgent.stream`.
        """
        self.check_free()
        factories.prepare_reasoner(self.settings, self.reasoner)
        for name in self.attached:
            self.name_of(name, f"attached {name}")
        given = self.attached
        try:
            turn = self._run(self.agent.stream(text, given, session=self.session, draw=draw), ui)
        except BaseException:
            self.attached = [] if self.is_unfinished() else given  # an unfinished turn already has them
            raise
        self.attached = []
        return turn

    def draw(self, requests: Sequence[ImageRequest], text: str, ui: ChatUI) -> Turn | None:
        """Draw the user's requests as a turn without the reasoner."""
        self.check_free()
        return self._run(self.agent.stream_drawing(requests, text, session=self.session), ui)

    def resume_turn(self, ui: ChatUI) -> Turn | None:
        """Continue the unfinished turn; if captions wait for confirmation, ask first."""
        waiting = self.agent.waiting(self.session)
        decision = None
        if waiting is not None:
            for caption in waiting.captions:
                ui.display.show(caption)
            ui.display.show(waiting)
            ui.display.close()
            decision = ui.decide(waiting)
            if decision is None:
                return None
        return self._run(self.agent.stream_resume(self.session, decision), ui)

    def is_unfinished(self) -> bool:
        """Whether the last turn was interrupted or waits for a decision."""
        return self.sessions.open_turn(self.session) is not None

    def check_free(self) -> None:
        """Check that a new turn may begin.

        Raises:
            InputError: If the last turn is unfinished.
        """
        if self.is_unfinished():
            raise InputError("The last turn is unfinished. /resume continues it, /undo drops it.")

    def switch(self, session: str) -> None:
        """Switch to another session."""
        self.session, self.attached = session, []

    def pictures(self) -> list[str]:
        """Return the ids of the session's pictures, in the order in which they were shown or drawn."""
        found = (
            str(block["file_id"])
            for message in self.agent.messages(self.session)
            if isinstance(message.content, list)
            for block in message.content
            if isinstance(block, dict) and block.get("type") == "image" and block.get("file_id")
        )
        return list(dict.fromkeys(found))

    def picture(self, word: str = "") -> str:
        """Return the id of a picture that the user names.

        Args:
            word: A number in the session, from 1; an id; a file; or empty for the last picture.

        Raises:
            InputError: If there is no such picture.
        """
        pictures = self.pictures()
        if not word and pictures:
            return pictures[-1]
        if word.isdecimal() and 1 <= int(word) <= len(pictures):
            return pictures[int(word) - 1]
        if (found := find_picture(word, self.store)) is not None:
            return found
        some = f"It has {len(pictures)}: /images lists them." if pictures else "It has none yet."
        what = f"no picture {word!r}" if word else "no picture"
        raise InputError(f"There is {what} in this session. {some} Give a number, an id or a file.")

    def name_of(self, artifact_id: str, call_id: str) -> str:
        """Return the number of a new picture, such as `[3]`; a redraw of the same call keeps the number."""
        self._known = self._known or self.pictures()
        if call_id not in self._numbers:
            if artifact_id not in self._known:
                self._known.append(artifact_id)
            self._numbers[call_id] = self._known.index(artifact_id) + 1
        return f"[{self._numbers[call_id]}]"

    def _run(self, events: Iterator[AgentEvent], ui: ChatUI) -> Turn | None:
        try:
            return run_turn(self.agent, self.session, events, ui.display, ui.decide)
        finally:
            self._numbers, self._known = {}, []
