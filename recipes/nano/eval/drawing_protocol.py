"""Drawing by a reasoner: captions where a picture is asked for, none elsewhere.

The chat model of the agent answers turns of held-out dialogues. The context of a turn is the reference dialogue, so a
wrong answer counts once. A request for a picture is asked twice: in plain words, and with `<GEN>`. Only captions that
the model writes by itself count, not those that `draw="always"` would force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import BaseModel, ConfigDict

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.errors import InputError
from mgem_agent.gen.events import captions, readable_text
from mgem_agent.gen.parser import parse
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, to_tool_call
from mgem_agent.recipes.eval.answer_log import AnswerLog
from mgem_agent.recipes.eval.proportion import Proportion
from mgem_agent.recipes.nano.eval.answer_matching import names_all_things
from mgem_agent.recipes.nano.world.generation_dataset import GenerationDataSettings, generation_record

__all__ = [
    "DrawingProtocol",
    "DrawingTurn",
    "RequestedPictures",
    "Sign",
    "held_out_turns",
    "measure_drawing",
]

Sign = Literal["words", "sign"]
"""How a picture is asked for: in plain words, or with `<GEN>`."""

_MAX_TOKENS = 256
_MAX_DIALOGUES = 200
"""Maximum dialogues searched for each turn."""


@dataclass(frozen=True)
class DrawingTurn:
    """A turn of a dialogue.

    Args:
        id: Record and turn.
        kind: "recaption", "in_context", "story" or "text_only".
        messages: The dialogue up to the user's turn, without `<GEN>`.
        wanted: Things to draw; empty for a turn that needs no picture.
    """

    id: str
    kind: str
    messages: tuple[BaseMessage, ...]
    wanted: tuple[str, ...] = ()


class RequestedPictures(BaseModel):
    """Results of turns that ask for a picture.

    Attributes:
        well_formed: Answers with captions, none of them malformed.
        kept: Those whose captions also name every requested thing.
    """

    model_config = ConfigDict(frozen=True)

    well_formed: Proportion
    kept: Proportion


class DrawingProtocol(BaseModel):
    """Drawing by a reasoner.

    Attributes:
        model: Name of the reasoner.
        asked: Results by form of the request, and by kind of dialogue or "all".
        told: Turns without a request that were answered without a caption.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    asked: dict[Sign, dict[str, RequestedPictures]]
    told: Proportion


def held_out_turns(num: int, seed: int = 0) -> list[DrawingTurn]:
    """Return different turns of held-out dialogues, half of them with a request for a picture.

    Args:
        num: Number of each half.
        seed: Seed of the dialogues.

    Raises:
        InputError: If `num` is less than one.
    """
    if num < 1:
        raise InputError(f"{num} turns cannot be answered. Give 1 or more.")
    asked: list[DrawingTurn] = []
    told: list[DrawingTurn] = []
    seen: set[tuple[str, ...]] = set()
    for index in range(num * _MAX_DIALOGUES):
        for turn in _turns_of(index, seed):
            rows = asked if turn.wanted else told
            said = tuple(message.text for message in turn.messages)
            if len(rows) < num and said not in seen:
                seen.add(said)
                rows.append(turn)
        if len(asked) == len(told) == num:
            break
    return asked + told


def _turns_of(index: int, seed: int) -> Iterator[DrawingTurn]:
    record = generation_record(index, GenerationDataSettings("held_out", seed))
    said = record["conversations"]
    messages: list[BaseMessage] = []
    for number, (question, answer) in enumerate(zip(said[::2], said[1::2], strict=True)):
        turn = (*messages, HumanMessage(question["value"]))
        yield DrawingTurn(f"{record['id']}/{number}", record["kind"], turn, tuple(record["wanted"][number]))
        messages.append(HumanMessage(question["value"], additional_kwargs={"draw": bool(question.get("draw"))}))
        events = parse(answer["value"])
        calls = [to_tool_call(caption) for caption in captions(events)]
        messages.append(AIMessage(readable_text(events), tool_calls=[dict(call) for call in calls]))


def measure_drawing(
    reasoner: GenProtocolModel,
    file: Path,
    settings: Mapping[str, Any],
    *,
    num: int,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[Sign, dict[str, RequestedPictures]], Proportion]:
    """Ask, and count well-formed captions.

    Args:
        reasoner: The reasoner.
        file: Log of the answers; stored ones are reused.
        settings: What the answers depend on besides the seed.
        num: Number of turns with a request for a picture, and of turns without.
        seed: Seed of the dialogues.
        report: Called with the number done and the total.

    Returns:
        Results of turns with a request, and the proportion of the others that were answered without a caption.

    Raises:
        InputError: If the file has answers of other settings.
    """
    turns = held_out_turns(num, seed)
    signs: tuple[Sign, ...] = get_args(Sign)
    jobs: list[tuple[DrawingTurn, Sign]] = [
        (turn, sign) for turn in turns for sign in (signs if turn.wanted else signs[:1])
    ]
    with AnswerLog.open(file, {**settings, "seed": seed}) as log:
        for done, (turn, sign) in enumerate(jobs):
            report(done, len(jobs))
            if (key := f"{turn.id}/{sign}") not in log.answers:
                log.add({"id": key, **_asked(reasoner, turn, sign)})
        report(len(jobs), len(jobs))
        found = {(turn.id, sign): log.answers[f"{turn.id}/{sign}"] for turn, sign in jobs}
    asked: dict[Sign, dict[str, RequestedPictures]] = {}
    for sign in signs:
        rows = [(turn, found[turn.id, sign]) for turn in turns if turn.wanted]
        kinds = {kind: [row for row in rows if row[0].kind == kind] for kind in sorted({row[0].kind for row in rows})}
        asked[sign] = {kind: _counted(some) for kind, some in {**kinds, "all": rows}.items()}
    told = Proportion.of(not _has_caption(found[turn.id, "words"]) for turn in turns if not turn.wanted)
    return asked, told


def _asked(reasoner: GenProtocolModel, turn: DrawingTurn, sign: Sign) -> dict[str, Any]:
    *before, last = turn.messages
    question = HumanMessage(last.text, additional_kwargs={"draw": sign == "sign"})
    answer = reasoner.invoke([*before, question], draw="auto", temperature=0, max_tokens=_MAX_TOKENS)
    drawn = [str(call["args"]["prompt"]) for call in answer.tool_calls if call["name"] == DRAW_TOOL_NAME]
    broken = [str(notice["reason"]) for notice in answer.response_metadata.get("notices", ())]
    return {"question": last.text, "text": answer.text, "captions": drawn, "broken": broken, "wanted": turn.wanted}


def _has_caption(answer: Mapping[str, Any]) -> bool:
    """Return whether there is a caption, complete or not."""
    return bool(answer["captions"] or answer["broken"])


def _counted(rows: list[tuple[DrawingTurn, dict[str, Any]]]) -> RequestedPictures:
    whole = [bool(answer["captions"]) and not answer["broken"] for _, answer in rows]
    kept = [
        is_complete and names_all_things(answer["captions"], turn.wanted)
        for is_complete, (turn, answer) in zip(whole, rows, strict=True)
    ]
    return RequestedPictures(well_formed=Proportion.of(whole), kept=Proportion.of(kept))
