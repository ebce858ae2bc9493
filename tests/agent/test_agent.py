"""The agent: one batch an answer, nothing drawn twice, nothing lost, a person who decides, and limits."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from PIL import Image
from pydantic import Field, TypeAdapter

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.decision import Decision
from mgem_agent.agent.events import (
    AgentEvent,
    AgentNotice,
    CaptionReady,
    ConfirmationNeeded,
    DrawingFailed,
    DrawingProgress,
    LookedAt,
    PictureDrawn,
    TextPiece,
    TurnFinished,
)
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError, ReasonerUnavailableError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator


def asks(*captions: str, text: str = "", **args: Any) -> AIMessage:
    """An answer that asks for pictures; the ids of its calls count from 0."""
    calls = [
        {"name": "generate_image", "args": {"prompt": caption, **args}, "id": f"call_{place}", "type": "tool_call"}
        for place, caption in enumerate(captions)
    ]
    return AIMessage(content=text, tool_calls=calls)


class Script(BaseChatModel):
    """Answers by a list, over and over its last line, and remembers what it was asked."""

    lines: list[Any]
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    options: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "script"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        self.asked.append(messages)
        self.options.append(options)
        line = self.lines[min(len(self.asked), len(self.lines)) - 1]
        if isinstance(line, Exception):
            raise line
        message = AIMessage(content=line) if isinstance(line, str) else line
        return ChatResult(generations=[ChatGeneration(message=message)])


class ProtocolScript(Script):
    """As one that speaks the `<GEN>` protocol: it has a draw mode."""

    draw: str = "auto"


class ToolScript(Script):
    """As one that calls tools natively."""

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=list(tools), **options)


class StreamingScript(ProtocolScript):
    """Says its lines word by word."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.asked.append(messages)
        self.options.append(options)
        for word in self.lines[0].split(" "):
            if word == "(waits)":
                assert options["cancel"].wait(20)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "images")


@pytest.fixture
def sessions() -> Sessions:
    return Sessions.in_memory()


@pytest.fixture
def generator() -> FlatColourGenerator:
    return FlatColourGenerator(size=(32, 32), num_steps=2)


@pytest.fixture
def make(store: ArtifactStore, sessions: Sessions, generator: FlatColourGenerator) -> Any:
    def make_agent(*lines: Any, model: type[Script] = ProtocolScript, **options: Any) -> tuple[MgemAgent, Script]:
        reasoner = model(lines=list(lines))
        given = {"store": store, "sessions": sessions, "generator": generator, **options}
        return MgemAgent(reasoner, given.pop("generator"), **given), reasoner

    return make_agent


def parts(message: BaseMessage) -> Any:
    """The blocks of a message."""
    return message.content


def kinds(events: Sequence[Any]) -> list[str]:
    return [event.kind for event in events]


def test_the_captions_of_an_answer_are_one_batch(make: Any, generator: FlatColourGenerator, store: Any) -> None:
    agent, _ = make(asks("a red fox", "a blue hen", text="Here they are."))
    turn = agent.invoke("Draw a fox and a hen.")
    assert generator.num_batches == 1
    assert turn.text == "Here they are."
    assert [picture.prompt for picture in turn.pictures] == ["a red fox", "a blue hen"]
    assert [store.open(picture.artifact_id).size for picture in turn.pictures] == [(32, 32)] * 2
    assert all(Path(picture.path).is_file() for picture in turn.pictures)
    assert (turn.outcome, turn.failures) == ("answered", ())


def test_events_come_in_the_order_in_which_things_happen(make: Any) -> None:
    agent, _ = make(asks("a red fox", text="Here."))
    events = list(agent.stream("Draw."))
    assert kinds(events) == ["text", "caption", "progress", "progress", "picture", "finished"]
    text, caption, step, _, picture, end = events
    assert text == TextPiece("Here.")
    assert (caption.call_id, caption.prompt, caption.request["width"]) == ("call_0", "a red fox", None)
    assert step == DrawingProgress("call_0", 1, 2)
    assert (picture.prompt, picture.stored_before) == ("a red fox", False)
    assert end.turn.pictures[0].artifact_id == picture.artifact_id


def test_previews_are_data_urls_and_only_come_if_asked_for(make: Any) -> None:
    agent, _ = make(asks("a red fox"), num_previews=1)
    steps = [event for event in agent.stream("Draw.") if isinstance(event, DrawingProgress)]
    assert [(step.step, step.preview is not None) for step in steps] == [(1, True), (2, False)]
    assert load_image(steps[0].preview).size == (32, 32)


def test_events_are_json_and_come_back(make: Any) -> None:
    agent, _ = make(asks("a red fox", "no ink", text="Here."), generator=FlatColourGenerator(fail_on="no ink"))
    kind = TypeAdapter[Any](AgentEvent)
    for event in agent.stream("Draw."):
        assert kind.validate_json(kind.dump_json(event)) == event


def test_text_is_streamed_as_it_is_said(make: Any) -> None:
    agent, _ = make("One two three", model=StreamingScript)
    events = list(agent.stream("Count."))
    assert [event.text for event in events[:-1]] == ["One ", "two ", "three "]
    assert events[-1].turn.text == "One two three"


def test_a_reasoner_of_the_protocol_gets_the_mode_and_is_asked_once(make: Any) -> None:
    agent, reasoner = make(asks("a red fox"))
    agent.invoke("Draw.", draw="always")
    assert [options["draw"] for options in reasoner.options] == ["always"]
    assert isinstance(reasoner.options[0]["cancel"], threading.Event)


def test_a_caller_of_tools_is_told_what_became_of_its_calls(make: Any, store: ArtifactStore) -> None:
    agent, reasoner = make(asks("a red fox"), "A fox, as you see.", model=ToolScript)
    turn = agent.invoke("Draw a fox.", draw="always")
    assert turn.text == "A fox, as you see."
    first, second = reasoner.options
    assert first["tools"][0]["function"]["name"] == "generate_image"
    assert (first["tool_choice"], second.get("tool_choice")) == ("any", None)
    told, shown = reasoner.asked[1][-2:]
    name = turn.pictures[0].artifact_id
    assert isinstance(told, ToolMessage) and told.tool_call_id == "call_0"
    assert told.content == f"Drawn: {name}, 32x32 pixels."
    assert isinstance(shown, HumanMessage)  # no provider takes pictures in every kind of message
    assert parts(shown)[0]["text"] == f"Picture {name}:" and parts(shown)[1]["base64"]


def test_with_drawing_off_there_is_no_tool(make: Any) -> None:
    agent, reasoner = make("No picture.", model=ToolScript, draw="never")
    assert agent.invoke("Hello.").text == "No picture."
    assert "tools" not in reasoner.options[0]


def test_what_must_be_drawn_is_drawn_by_the_users_words_if_the_reasoner_has_none(make: Any) -> None:
    agent, _ = make("Certainly.", "Done.", model=ToolScript)
    events = list(agent.stream("a red fox", draw="always"))
    assert AgentNotice("The reasoner wrote no caption, so your own words are used as the caption.") in events
    assert events[-1].turn.pictures[0].prompt == "a red fox"


def test_defaults_hold_where_the_reasoner_leaves_a_field_open(make: Any, generator: FlatColourGenerator) -> None:
    agent, _ = make(asks("a red fox", height=48), defaults={"seed": 7, "height": 64, "width": 64})
    agent.invoke("Draw.")
    assert (generator.drawn[0].seed, generator.drawn[0].width, generator.drawn[0].height) == (7, 64, 48)


def test_a_picture_that_fails_costs_no_other(make: Any) -> None:
    agent, reasoner = make(
        asks("a red fox", "no ink", "a hen"), "One is missing.", model=ToolScript,
        generator=FlatColourGenerator(fail_on="no ink"),
    )  # fmt: skip
    events = list(agent.stream("Draw."))
    assert [event.message for event in events if isinstance(event, DrawingFailed)] == [
        "The card 'no ink' came out blank."
    ]
    turn = events[-1].turn
    assert [picture.prompt for picture in turn.pictures] == ["a red fox", "a hen"]
    assert [(failure.call_id, failure.prompt) for failure in turn.failures] == [("call_1", "no ink")]
    told = reasoner.asked[1][-3]
    assert (told.status, told.content) == ("error", "Not drawn: The card 'no ink' came out blank.")
    assert turn.text == "One is missing."


def test_a_generator_that_breaks_off_does_not_end_the_turn(make: Any) -> None:
    agent, _ = make(asks("a red fox", "dynamite", "a hen"), generator=FlatColourGenerator(crash_on="dynamite"))
    turn = agent.invoke("Draw.")
    assert [picture.prompt for picture in turn.pictures] == ["a red fox"]
    assert len(turn.failures) == 2 and "the card caught fire" in turn.failures[0].message


def test_a_full_disk_is_a_failed_drawing(make: Any, store: ArtifactStore) -> None:
    store.root.write_text("a file where the folder should be")
    turn = make(asks("a red fox"))[0].invoke("Draw.")
    assert turn.pictures == () and len(turn.failures) == 1


def test_calls_that_cannot_be_drawn_are_told_to_the_reasoner(make: Any, generator: FlatColourGenerator) -> None:
    wrong = AIMessage(
        content="",
        tool_calls=[
            {"name": "drwa", "args": {}, "id": "a", "type": "tool_call"},
            {"name": "generate_image", "args": {"prompt": "x", "width": 3}, "id": "b", "type": "tool_call"},
            {"name": "generate_image", "args": {"prompt": "x", "image": "img-0000", "task": "edit"}, "id": "c"},
        ],
        invalid_tool_calls=[{"name": "generate_image", "args": "{", "id": "d", "error": None}],
    )
    agent, reasoner = make(wrong, "I see.", model=ToolScript)
    agent.invoke("Draw.")
    told = [str(message.content) for message in reasoner.asked[1] if isinstance(message, ToolMessage)]
    assert told[0] == "Not drawn: There is no tool 'drwa'. The only one is 'generate_image'."
    assert "width: Input should be greater than or equal to 16" in told[1]
    assert "There is no picture 'img-0000'" in told[2]
    assert told[3] == "Not drawn: The arguments of the call are not valid JSON: {"
    assert generator.num_batches == 0


def test_calls_are_read_as_models_write_them(make: Any, generator: FlatColourGenerator) -> None:
    filled = {"prompt": "a fox", "image": "", "seed": -1, "strength": 1, "task": "", "size": "32x48", "quality": "hd"}
    answer = AIMessage(
        content="",
        tool_calls=[{"name": "generate_image", "args": filled, "id": "a", "type": "tool_call"}],
        invalid_tool_calls=[
            {"name": "generate_image", "args": json.dumps(json.dumps({"prompt": "a hen"})), "id": "b", "error": None}
        ],
    )
    agent, reasoner = make(answer, "I see.", model=ToolScript)
    events = list(agent.stream("Draw."))
    assert [(request.prompt, request.height) for request in generator.drawn] == [("a fox", 48), ("a hen", 32)]
    notice = "The argument 'quality' is unknown and was left out."
    assert notice in [event.message for event in events if isinstance(event, AgentNotice)]
    told = [str(message.content) for message in reasoner.asked[1] if isinstance(message, ToolMessage)]
    assert [notice in each for each in told] == [True, False]


def test_calls_without_an_id_of_their_own_get_one(make: Any) -> None:
    message = asks("a red fox", "a hen")
    same = message.model_copy(update={"tool_calls": [{**call, "id": "same"} for call in message.tool_calls]})
    turn = make(same)[0].invoke("Draw.")
    assert len({picture.call_id for picture in turn.pictures}) == 2


def test_limits_have_outcomes(make: Any, generator: FlatColourGenerator) -> None:
    agent, reasoner = make(asks("a red fox"), model=ToolScript, max_rounds=3)
    assert agent.invoke("Draw.", session="rounds").outcome == "max_rounds"
    assert len(reasoner.asked) == 3
    turn = make(asks("a", "b", "c"), max_pictures=2)[0].invoke("Draw.", session="pictures")
    assert (turn.outcome, len(turn.pictures)) == ("max_pictures", 2)
    assert turn.failures[0].message == "A turn draws at most 2 picture(s); this one was not drawn."
    agent, reasoner = make(asks("a"), model=ToolScript, max_pictures=2, max_rounds=9)
    turn = agent.invoke("Draw.", session="many")
    assert (turn.outcome, len(turn.pictures), len(reasoner.asked)) == ("max_pictures", 2, 3)


def test_drawing_stops_at_the_time_limit_and_what_is_drawn_stays(make: Any) -> None:
    slow = FlatColourGenerator(size=(32, 32), num_steps=50, delay_s=0.05, extra_delay_s=30.0)
    agent, _ = make(asks("a red fox", "a hen"), generator=slow, timeout_s=0.3)
    turn = agent.invoke("Draw.")
    assert (turn.outcome, len(turn.failures)) == ("timeout", 2)
    assert turn.failures[0].message == "The request was cancelled."


def test_cancelling_ends_the_turn_and_the_session_goes_on(make: Any) -> None:
    slow = FlatColourGenerator(size=(32, 32), num_steps=50, delay_s=30.0)
    agent, reasoner = make(asks("a red fox"), "Never mind.", model=ToolScript, generator=slow)
    assert not agent.cancel()
    outcome = ""
    for event in agent.stream("Draw."):
        if isinstance(event, DrawingProgress):
            assert agent.cancel()
        if isinstance(event, TurnFinished):
            outcome = event.turn.outcome
    assert (outcome, len(reasoner.asked)) == ("cancelled", 1)
    assert agent.invoke("Go on.").text == "Never mind."


def test_words_are_broken_off_when_the_turn_is_cancelled(make: Any) -> None:
    agent, _ = make("One (waits) three", model=StreamingScript)
    seen = []
    for event in agent.stream("Count."):
        seen.append(event)
        agent.cancel()
    assert (seen[-1].turn.outcome, seen[-1].turn.text) == ("cancelled", "One (waits)")


class Deaf:
    """Draws, and hears of a stop only between pictures; the second picture waits."""

    name = "deaf"
    capabilities = FlatColourGenerator.CAPABILITIES

    def __init__(self) -> None:
        self.inner = FlatColourGenerator(size=(32, 32), num_steps=1)

    def generate(
        self, requests: Sequence[Any], *, pictures: Mapping[str, Any] | None = None, cancel: Any = None
    ) -> Any:
        for index, request in enumerate(requests):
            if index:
                cancel.wait(20)
            yield from self._moved(index, request, pictures, cancel)

    def _moved(self, index: int, request: Any, pictures: Any, cancel: Any) -> Any:
        for event in self.inner.generate([request], pictures=pictures, cancel=cancel):
            yield dataclasses.replace(event, index=index)

    def unload(self) -> None:
        self.inner.unload()


def test_a_stream_that_is_closed_leaves_a_turn_to_resume(make: Any, sessions: Sessions) -> None:
    deaf = Deaf()
    agent, _ = make(asks("a red fox", "a hen", text="Here."), generator=deaf)
    events = agent.stream("Draw.")
    for event in events:
        if isinstance(event, PictureDrawn):
            break
    events.close()
    assert sessions.list()[0].unfinished
    with pytest.raises(
        InputError,
        match=r"^Session 'agent-[0-9a-f-]+' has an unfinished turn\. Call resume\('agent-[0-9a-f-]+'\) to con",
    ):
        agent.invoke("And now?")
    again = list(make(asks("never asked again"))[0].stream_resume(agent.session))
    drawn = [event for event in again if isinstance(event, PictureDrawn)]
    assert [(event.prompt, event.stored_before) for event in drawn] == [("a red fox", True), ("a hen", False)]
    assert again[-1].turn.text == "Here." and len(again[-1].turn.pictures) == 2


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_agent import ProtocolScript, asks
from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator

class Dies(FlatColourGenerator):
    def generate(self, requests, **rest):
        for event in super().generate(requests, **rest):
            if event.index == 2:
                os.kill(os.getpid(), 9)
            yield event

root = Path(sys.argv[1])
agent = MgemAgent(ProtocolScript(lines=[asks("a", "b", "c", "d")]), Dies(size=(32, 32)),
    store=ArtifactStore(root / "images"), sessions=Sessions.at(root / "sessions"))
agent.invoke("Draw four.", session="killed")
"""


def test_a_killed_program_loses_nothing_and_draws_nothing_twice(tmp_path: Path, generator: FlatColourGenerator) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -9, killed.stderr
    store = ArtifactStore(tmp_path / "images")
    assert sorted(artifact.title for artifact in store.list()) == ["a", "b"]
    sessions = Sessions.at(tmp_path / "sessions")
    agent = MgemAgent(ProtocolScript(lines=["Never asked."]), generator, store=store, sessions=sessions)
    turn = agent.resume("killed")
    assert [request.prompt for request in generator.drawn] == ["c", "d"]
    assert [picture.prompt for picture in turn.pictures] == ["a", "b", "c", "d"]
    assert not sessions.list()[0].unfinished
    sessions.close()


def test_an_error_of_the_reasoner_is_raised_and_its_turn_can_be_resumed(make: Any) -> None:
    agent, _ = make(ConnectionError("no route"), asks("a red fox"))
    message = (
        r"^The reasoner 'ProtocolScript' cannot be reached \(no route\.\) Check that the server is running there\."
    )
    with pytest.raises(ReasonerUnavailableError, match=message):
        agent.invoke("Draw.")
    assert [picture.prompt for picture in agent.resume().pictures] == ["a red fox"]


def test_nothing_is_drawn_before_it_is_approved(make: Any, generator: FlatColourGenerator) -> None:
    agent, _ = make(asks("a red fox", text="Shall I?"), confirm=True)
    events = list(agent.stream("Draw."))
    assert kinds(events) == ["text", "caption", "confirm"]
    assert isinstance(events[-1], ConfirmationNeeded) and events[-1].captions[0].prompt == "a red fox"
    assert generator.num_batches == 0
    with pytest.raises(InputError, match=r"waits for a decision on 1 caption\(s\)\. Resume with 'approve', 'refuse'"):
        agent.resume()
    turn = agent.resume(decision="approve")
    assert [picture.prompt for picture in turn.pictures] == ["a red fox"]
    assert (turn.text, generator.num_batches) == ("Shall I?", 1)


def test_a_turn_that_waits_says_for_what(make: Any) -> None:
    agent, _ = make(asks("a red fox", text="Shall I?"), confirm=True)
    turn = agent.invoke("Draw.")
    assert (turn.outcome, turn.text) == ("confirmation_needed", "Shall I?")
    assert [caption.prompt for caption in turn.captions] == ["a red fox"]


def test_a_person_edits_captions_before_they_cost_anything(make: Any, generator: FlatColourGenerator) -> None:
    agent, reasoner = make(asks("a red fox", "a hen"), "Well.", model=ToolScript, confirm=True)
    agent.invoke("Draw.")
    with pytest.raises(
        InputError, match=r"No call 'call_9' is waiting for a decision\. Waiting calls: 'call_0', 'call_1'\."
    ):
        agent.resume(decision=Decision(kind="edit", edits={"call_9": {"prompt": "x"}}))
    with pytest.raises(InputError, match=r"width: Input should be less than or equal to 8192"):
        agent.resume(decision=Decision(kind="edit", edits={"call_0": {"width": 9000}}))
    edit = Decision(kind="edit", edits={"call_0": {"prompt": "a grey fox"}}, refused=("call_1",), reason="No birds.")
    turn = agent.resume(decision=edit)
    assert [request.prompt for request in generator.drawn] == ["a grey fox"]
    assert turn.failures[0].message == "The person refused this picture. No birds."
    drawn, refused, _ = reasoner.asked[1][-3:]
    assert str(drawn.content).startswith("Drawn: img-")
    assert refused.content == "Not drawn: The person refused this picture. No birds."


def test_a_person_refuses(make: Any, generator: FlatColourGenerator) -> None:
    agent, _ = make(asks("a red fox"), confirm=True)
    agent.invoke("Draw.")
    turn = agent.resume(decision="refuse")
    assert (turn.outcome, turn.pictures, generator.num_batches) == ("answered", (), 0)


def test_decisions_that_nobody_asked_for(make: Any) -> None:
    agent, _ = make(ConnectionError("no route"), asks("a red fox"), confirm=True)
    with pytest.raises(
        InputError, match=r"^Session 'agent-[0-9a-f-]+' has no unfinished turn\. Start one with invoke or strea"
    ):
        agent.resume()
    with pytest.raises(ReasonerUnavailableError):
        agent.invoke("Draw.")
    with pytest.raises(
        InputError, match=r"^Session 'agent-[0-9a-f-]+' does not wait for a decision\. Resume it without one"
    ):
        agent.resume(decision="approve")
    agent.resume()
    with pytest.raises(InputError, match=r"^There is no decision 'yes'\. Give 'approve', 'refuse', or a Decision with"):
        agent.resume(decision="yes")


def test_a_picture_that_does_not_follow_is_drawn_again(make: Any, generator: FlatColourGenerator) -> None:
    verdicts = (
        '```json\n{"answers": ["yes", "no", "no"], "problem": "no hat", "caption": "a fox in a tall hat"}\n```',
        'Better: {"answers": ["yes", "yes", "yes"]}',
    )
    agent, reasoner = make(asks("a fox in a hat"), *verdicts, look=2)
    events = list(agent.stream("Draw."))
    looks = [event for event in events if isinstance(event, LookedAt)]
    assert [(look.follows, look.score, look.problem) for look in looks] == [(False, 1 / 3, "no hat"), (True, 1.0, "")]
    assert [request.prompt for request in generator.drawn] == ["a fox in a hat", "a fox in a tall hat"]
    assert generator.drawn[0].seed != generator.drawn[1].seed
    [picture] = events[-1].turn.pictures
    assert picture.prompt == "a fox in a tall hat"
    assert reasoner.options[1]["draw"] == "never"
    assert parts(reasoner.asked[1][0])[0]["id"] == looks[0].artifact_id


def test_looking_ends_after_k_attempts_and_the_best_is_kept(
    make: Any, generator: FlatColourGenerator, store: ArtifactStore
) -> None:
    answers = (["no", "no", "no"], ["yes", "yes", "no"], ["yes", "no", "no"])
    scores = [json.dumps({"answers": each, "problem": "no hat"}) for each in answers]
    turn = make(asks("a fox in a hat"), *scores, look=2)[0].invoke("Draw.")
    assert len(generator.drawn) == 3
    [kept] = turn.pictures
    assert store.get(kept.artifact_id).seed == generator.drawn[1].seed


def test_an_unreadable_verdict_leaves_the_picture(make: Any, generator: FlatColourGenerator) -> None:
    events = list(make(asks("a fox"), "Lovely!", look=3)[0].stream("Draw."))
    assert [event.follows for event in events if isinstance(event, LookedAt)] == [None]
    assert len(generator.drawn) == 1
    notice = "The reasoner's verdict on the picture could not be read: 'Lovely!'."
    assert AgentNotice(notice) in events
    assert events[-1].turn.notices == (notice,)


def test_pictures_of_the_user_are_stored_and_shown(make: Any, store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    Image.new("RGB", (20, 10), "red").save(path)
    agent, reasoner = make("A cat.", system_prompt="You see.")
    agent.invoke("What is it?", [path])
    system, asked = reasoner.asked[0]
    assert isinstance(system, SystemMessage) and isinstance(asked, HumanMessage)
    block, text = parts(asked)
    assert store.open(block["id"]).size == (20, 10) and block["base64"] and text["text"] == "What is it?"
    kept = parts(agent.messages()[0])
    assert kept[0] == {"type": "image", "file_id": block["id"]}
    agent.invoke("And these?", [block["id"], {"type": "image", "file_id": block["id"]}, Image.new("RGB", (9, 9))])
    assert [part["type"] for part in parts(agent.messages()[2])] == ["image", "image", "image", "text"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["img-00000000"], "There is no picture 'img-00000000'"),
        (["no-such-file.png"], "no-such-file.png"),
        ([{"type": "video"}], r"^A block of type 'video' is not a picture\. Give a block of type 'image'\."),
        ([{"type": "image"}], r"^An image block is empty\. Give 'base64', a data 'url', or the 'file_id' of a"),
        ([], r"^The message is empty\. Give a text or a picture\."),
    ],
)
def test_pictures_that_cannot_be_read_begin_no_turn(make: Any, images: list[Any], message: str) -> None:
    agent, _ = make("Yes?")
    with pytest.raises(InputError, match=message):
        agent.invoke("", images)
    assert agent.sessions.list() == []


@pytest.mark.parametrize("form", ["url", "image_url", "nested", "file_id", "file"])
def test_a_reasoner_takes_no_picture_off_the_disk(make: Any, store: ArtifactStore, tmp_path: Path, form: str) -> None:
    private = tmp_path / "private.png"
    Image.new("RGB", (20, 10), "red").save(private)
    stored = store.put_picture(Image.new("RGB", (9, 9)), origin="another dialogue").id
    block = {
        "url": {"type": "image", "url": str(private)},
        "image_url": {"type": "image_url", "image_url": {"url": str(private)}},
        "nested": {"type": "image_url", "image_url": {"url": {"type": "image", "url": str(private)}}},
        "file_id": {"type": "image", "file_id": stored},
        "file": {"type": "image", "url": private.as_uri()},
    }[form]
    agent, reasoner = make(AIMessage([{"type": "text", "text": "Look:"}, block]), "Bye.")
    agent.invoke("Hello.")
    assert [artifact.id for artifact in store.list()] == [stored]
    assert "private" not in str(agent.messages()[1].content)
    agent.invoke("And now?")
    assert "'type': 'image" not in str(reasoner.asked[-1])
    assert "a picture that cannot be read" in str(reasoner.asked[-1])


def test_a_reasoner_may_give_a_picture_as_data(make: Any, store: ArtifactStore) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    agent, _ = make(AIMessage([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}]))
    agent.invoke("Hello.")
    [block] = parts(agent.messages()[1])
    assert store.open(block["file_id"]).size == (20, 10)


def test_only_the_latest_pictures_are_shown_again(make: Any) -> None:
    agent, reasoner = make(asks("a red fox"), asks("a hen"), "Two animals.", max_context_pictures=1)
    first, second = agent.invoke("A fox."), agent.invoke("A hen.")
    agent.invoke("What have you drawn?")
    told = [parts(message)[1] for message in reasoner.asked[-1] if isinstance(message, ToolMessage)]
    assert told[0] == {"type": "text", "text": f"[picture {first.pictures[0].artifact_id}, not shown again]"}
    assert told[1]["id"] == second.pictures[0].artifact_id and told[1]["base64"]
    Path(second.pictures[0].path).unlink()
    agent.invoke("And now?")
    told = [parts(message)[1] for message in reasoner.asked[-1] if isinstance(message, ToolMessage)]
    assert told[1]["text"].endswith("no longer stored]")


def test_a_picture_is_edited_by_its_id(make: Any, generator: FlatColourGenerator) -> None:
    first = make(asks("a red fox"))[0].invoke("Draw.")
    name = first.pictures[0].artifact_id
    agent, _ = make(asks("make it blue", image=name, task="edit"))
    turn = agent.invoke("Blue, please.")
    assert agent.store.get(turn.pictures[0].artifact_id).parents == (name,)


def test_agents_do_not_continue_each_others_dialogue(make: Any, sessions: Sessions) -> None:
    first, second = make("One.", "Two.")[0], make("Three.")[0]
    assert first.session != second.session
    for agent, words in ((first, "Hello."), (first, "And?"), (second, "Hello.")):
        agent.invoke(words)
    assert [len(agent.turns()) for agent in (first, second)] == [2, 1]
    assert len(first.turns(second.session)) == 1
    assert {summary.name for summary in sessions.list()} == {first.session, second.session}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((5,), "The message has the type 'int'. Give a string."),
        ((None,), "The message has the type 'NoneType'."),
        (("What?", "cat.png"), "images has the type 'str'. Give a list, even for one picture."),
        (("What?", {"type": "image"}), "images has the type 'dict'."),
        (("What?", 5), "images has the type 'int'."),
    ],
)
def test_what_is_no_message_is_refused(make: Any, sessions: Sessions, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make("ok")[0].invoke(*given)
    assert sessions.list() == []


def test_undo_and_fork(make: Any) -> None:
    agent, reasoner = make("One.", "Two.", "Three.")
    agent.invoke("a")
    agent.invoke("b")
    agent.fork(agent.session, "other")
    agent.undo()
    assert [turn.text for turn in agent.turns()] == ["One."]
    assert [turn.text for turn in agent.turns("other")] == ["One.", "Two."]
    agent.invoke("c")
    assert [str(message.content) for message in reasoner.asked[-1]] == ["a", "One.", "c"]
    assert [turn.text for turn in agent.turns()] == ["One.", "Three."]


def test_an_unfinished_turn_is_undone_first(make: Any) -> None:
    agent, _ = make(asks("a red fox"), "Fine.", confirm=True)
    agent.invoke("Draw.")
    agent.undo()
    assert agent.turns() == []
    assert agent.invoke("Hello.").text == "Fine."


def test_a_session_takes_one_turn_at_a_time(make: Any) -> None:
    agent, _ = make("One two", model=StreamingScript)
    events = agent.stream("Count.")
    next(events)
    with pytest.raises(
        InputError, match=r"^Session 'agent-[0-9a-f-]+' is in use by another thread of this process\. Wait unti"
    ):
        agent.invoke("Me too.")
    assert agent.invoke("Elsewhere.", session="other").text == "One two"
    events.close()


def test_the_async_twin_gives_the_same_events(make: Any) -> None:
    agent, _ = make(asks("a red fox", "a hen", text="Here."))

    async def collect() -> list[Any]:
        return [event async for event in agent.astream("Draw.", session="async")]

    apart, together = asyncio.run(collect()), list(agent.stream("Draw.", session="sync"))
    assert apart[:-1] == together[:-1]
    assert apart[-1].turn.pictures == together[-1].turn.pictures
    assert asyncio.run(agent.ainvoke("Again.", session="async")).text == "Here."


def test_confirming_works_the_async_way(make: Any) -> None:
    agent, _ = make(asks("a red fox"), confirm=True)

    async def run() -> Any:
        assert (await agent.ainvoke("Draw.")).outcome == "confirmation_needed"
        return await agent.aresume(decision="approve")

    assert len(asyncio.run(run()).pictures) == 1


def test_a_cancelled_task_leaves_a_turn_to_resume(make: Any) -> None:
    slow = FlatColourGenerator(size=(32, 32), num_steps=50, delay_s=30.0)
    agent, _ = make(asks("a red fox"), generator=slow)

    async def run() -> None:
        async for event in agent.astream("Draw."):
            if isinstance(event, DrawingProgress):
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    quick, _ = make()
    assert [picture.prompt for picture in quick.resume(agent.session).pictures] == ["a red fox"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draw": "sometimes"}, r"^There is no draw mode 'sometimes'\. Allowed: 'auto', 'always', 'never'\."),
        ({"look": -1}, r"^look=-1 is too small\. Give 0 or more\."),
        ({"max_pictures": 0}, r"^max_pictures=0 is too small\. Give 1 or more\."),
        ({"timeout_s": 0}, r"^timeout_s=0 is not a valid time limit\. Give seconds above 0, or None for no limit\."),
        ({"defaults": {"colour": "red"}}, r"^Unknown drawing defaults: 'colour'\."),
    ],
)
def test_arguments_out_of_range(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make("Yes?", **options)


def test_looking_needs_a_reasoner_that_sees(store: ArtifactStore, sessions: Sessions) -> None:
    blind = ProtocolScript(lines=["?"], profile={"image_inputs": False})
    with pytest.raises(
        InputError, match=r"^look=1 needs a reasoner that takes pictures, and 'ProtocolScript' takes none"
    ):
        MgemAgent(blind, FlatColourGenerator(), store=store, sessions=sessions, look=1)


def test_a_reasoner_that_sees_nothing_is_told_of_pictures_in_words(store: Any, sessions: Sessions) -> None:
    blind = ProtocolScript(lines=["?"], profile={"image_inputs": False})
    agent = MgemAgent(blind, FlatColourGenerator(), store=store, sessions=sessions)
    agent.invoke("What is it?", [Image.new("RGB", (9, 9))])
    assert parts(blind.asked[0][0])[0]["text"].endswith(", not shown]")


def test_a_caption_knows_its_prompt() -> None:
    assert CaptionReady("call_1", {"prompt": "a red fox"}).prompt == "a red fox"


def test_the_database_grows_as_much_by_a_late_turn_as_by_an_early_one(tmp_path: Path, store: ArtifactStore) -> None:
    sessions = Sessions.at(tmp_path)
    reasoner = ProtocolScript(lines=[asks("a red fox", text="Here is the fox. " * 200)])
    agent = MgemAgent(reasoner, FlatColourGenerator(size=(32, 32)), store=store, sessions=sessions)
    sizes = []
    for _ in range(25):
        agent.invoke("Draw a red fox, and tell me all about it. " * 20)
        sessions.checkpointer.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]
        sizes.append((tmp_path / "sessions.sqlite").stat().st_size)
    early, late = sizes[14] - sizes[4], sizes[24] - sizes[14]
    assert 0 < late <= early * 1.3
    [left] = sessions.checkpointer.conn.execute("SELECT count(*) FROM checkpoints").fetchone()  # type: ignore[attr-defined]
    assert left == 0
    sessions.close()
