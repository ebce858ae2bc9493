"""When and what a reasoner draws: captions for what is to be drawn, none for what is to be told.

Turns of held-out dialogues are answered by the chat model that an agent would ask. What came before a turn is the
dialogue as it was written, so that one wrong answer counts once. A turn that asks for a picture is answered twice: with
the words alone, and with the sign to draw at their end. The model's own captions count: what `draw="always"` would get
from it in a second pass, or make of the user's words, does not.
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
from mgem_agent.recipes.nano.eval.answer_log import AnswerLog
from mgem_agent.recipes.nano.eval.answer_matching import keeps_things
from mgem_agent.recipes.nano.eval.proportion import Share
from mgem_agent.recipes.nano.world.generation_dataset import GenerationDataSettings, generation_record

__all__ = [
    "AskedPictures",
    "DrawingProtocol",
    "DrawingTurn",
    "Sign",
    "held_out_turns",
    "measure_drawing",
]

Sign = Literal["words", "sign"]
"""How a picture is asked for: in words alone, or with the sign to draw as well."""

_MAX_TOKENS = 256
_MAX_DIALOGUES = 200
"""Dialogues that are looked through for each turn that is wanted."""


@dataclass(frozen=True)
class DrawingTurn:
    """A turn of a dialogue.

    Args:
        id: Record and turn.
        kind: "recaption", "in_context", "story" or "text_only".
        messages: The dialogue up to and with the user's turn, without the sign at its end.
        wanted: What is to be drawn; nothing where the turn is to be answered in words.
    """

    id: str
    kind: str
    messages: tuple[BaseMessage, ...]
    wanted: tuple[str, ...] = ()


class AskedPictures(BaseModel):
    """What became of turns that ask for a picture.

    Attributes:
        well_formed: Answers with a caption, or several, none of them broken.
        kept: Those whose captions name everything that was asked for, too.
    """

    model_config = ConfigDict(frozen=True)

    well_formed: Share
    kept: Share


class DrawingProtocol(BaseModel):
    """When and what a reasoner draws.

    Attributes:
        model: What was asked.
        asked: By how the picture was asked for, and then by kind of dialogue, or "all".
        told: Turns to be answered in words that were, without any caption.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    asked: dict[Sign, dict[str, AskedPictures]]
    told: Share


def held_out_turns(num: int, seed: int = 0) -> list[DrawingTurn]:
    """Return turns of held-out dialogues: as many that ask for a picture as do not, no dialogue twice.

    Args:
        num: How many of both.
        seed: Seed of the series of dialogues.

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
) -> tuple[dict[Sign, dict[str, AskedPictures]], Share]:
    """Ask, and count what is drawn.

    Args:
        reasoner: What is asked.
        file: Where answers are kept; those that are there are not asked for again.
        settings: What the answers depend on besides the seed.
        num: Turns that ask for a picture, and as many that do not.
        seed: Seed of the series of dialogues.
        report: Called with how many answers are there, of how many.

    Returns:
        What became of the turns that ask for a picture, and how many of the others were answered in words.

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
    asked: dict[Sign, dict[str, AskedPictures]] = {}
    for sign in signs:
        rows = [(turn, found[turn.id, sign]) for turn in turns if turn.wanted]
        kinds = {kind: [row for row in rows if row[0].kind == kind] for kind in sorted({row[0].kind for row in rows})}
        asked[sign] = {kind: _counted(some) for kind, some in {**kinds, "all": rows}.items()}
    told = Share.of(not _has_caption(found[turn.id, "words"]) for turn in turns if not turn.wanted)
    return asked, told


def _asked(reasoner: GenProtocolModel, turn: DrawingTurn, sign: Sign) -> dict[str, Any]:
    *before, last = turn.messages
    question = HumanMessage(last.text, additional_kwargs={"draw": sign == "sign"})
    answer = reasoner.invoke([*before, question], draw="auto", temperature=0, max_tokens=_MAX_TOKENS)
    drawn = [str(call["args"]["prompt"]) for call in answer.tool_calls if call["name"] == DRAW_TOOL_NAME]
    broken = [str(notice["reason"]) for notice in answer.response_metadata.get("notices", ())]
    return {"question": last.text, "text": answer.text, "captions": drawn, "broken": broken, "wanted": turn.wanted}


def _has_caption(answer: Mapping[str, Any]) -> bool:
    """Return whether any caption was written, if only begun."""
    return bool(answer["captions"] or answer["broken"])


def _counted(rows: list[tuple[DrawingTurn, dict[str, Any]]]) -> AskedPictures:
    whole = [bool(answer["captions"]) and not answer["broken"] for _, answer in rows]
    kept = [
        is_whole and keeps_things(answer["captions"], turn.wanted)
        for is_whole, (turn, answer) in zip(whole, rows, strict=True)
    ]
    return AskedPictures(well_formed=Share.of(whole), kept=Share.of(kept))
