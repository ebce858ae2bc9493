"""Records read by the authors' own rules (`preprocess_multimodal` and what follows it in their `train.py`).

In a record with a picture, each turn with marks gets one mark at its front, in answers too, and only such turns lose
the whitespace at their ends. A picture without a mark is not shown. In a record without pictures a mark is ordinary
text. Special tokens in a text count as such.

Where their code would show the picture of another record of the batch (more marked turns than pictures), the record's
last picture is shown again. Where it masks a whole record, because it cannot find the answers in the rendered text, or
takes another record after an error, the record is unusable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgem_agent.core_model.prompts.templates import load_prompt_template, prompt_template_names, render_dialogue
from mgem_agent.recipes.train.records import BrokenRecordError, Images, pictures_of, turns_of

__all__ = ["PICTURE", "FaithfulPrompt", "faithful_prompt"]

PICTURE = "\ue000picture\ue001"
"""Marks a picture in a rendered text, in which `<image>` may be ordinary text."""

_NO_MARK = "\ue002"
_MARK = "<image>"
_ROLES = {"human": "user", "gpt": "assistant"}
_SEPARATORS = {
    "vicuna_v1": ("</s>", " ASSISTANT: "),
    "mistral_instruct": ("</s>", "[/INST] "),
    "llama_3": ("<|eot_id|>",),
    "gemma": ("<eos>",),
    "chatml_direct": ("<|im_end|>",),
}
"""Texts at which the authors' code splits a rendered dialogue to find the answers, by family."""


@dataclass(frozen=True)
class FaithfulPrompt:
    """A record as text.

    Args:
        text: The rendered dialogue, with `PICTURE` for each picture.
        spans: Start and end of the answers in it, in characters.
        pictures: The pictures, one for each mark.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    pictures: tuple[Path | bytes, ...]


def faithful_prompt(record: Any, images: Images, template: str) -> FaithfulPrompt:
    """Render a record as the authors' code does.

    Args:
        record: The record.
        images: Where its pictures are.
        template: Name of the dialogue format, or a chat template.

    Raises:
        BrokenRecordError: If their code would not learn anything from it.
    """
    pictures = pictures_of(record, images)
    if "image" in record and not pictures:
        raise BrokenRecordError("malformed", "its 'image' names no picture")
    turns = record.get("conversations") if template == "plain" else turns_of(record)
    texts = [_text(turn, has_picture=bool(pictures)) for turn in _alternating(turns, template)]
    if template == "plain":
        return _plain(texts, pictures)
    if not all(texts) or any(mark in text for text in texts for mark in _SEPARATORS.get(template, ())):
        raise BrokenRecordError("nothing to learn", "the authors' code cannot find the answers in it, and masks it")
    marks = sum(text.count(PICTURE) for text in texts)
    messages = [
        {"role": _ROLES[turn["from"]], "content": text, **({"draw": True} if _asks(turn) else {})}
        for turn, text in zip(turns, texts, strict=True)
    ]
    jinja = load_prompt_template(template) if template in prompt_template_names() else template
    rendered = render_dialogue(messages, template=jinja, image_token=_NO_MARK, return_assistant_spans=True)
    shown = tuple(pictures[min(place, len(pictures) - 1)] for place in range(marks))
    return FaithfulPrompt(rendered.text, rendered.assistant_spans, shown)


def _alternating(turns: Any, template: str) -> list[Mapping[str, Any]]:
    """Check that questions and answers alternate, and return them."""
    if not isinstance(turns, list) or len(turns) < 2:
        raise BrokenRecordError("malformed", "it has no answer")
    if template == "plain" and len(turns) != 2:
        raise BrokenRecordError("malformed", f"a caption has one question and one answer, got {len(turns)} turns")
    for place, turn in enumerate(turns):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
            raise BrokenRecordError("malformed", f"a turn has 'from' and 'value', got {turn!r:.80}")
        if template != "plain" and turn.get("from") != ("human", "gpt")[place % 2]:
            raise BrokenRecordError("malformed", f"turn {place + 1} must be from {('human', 'gpt')[place % 2]!r}")
    return turns


def _text(turn: Mapping[str, Any], *, has_picture: bool) -> str:
    text: str = turn["value"]
    if any(mark in text for mark in (PICTURE, _NO_MARK)):
        raise BrokenRecordError("malformed", "a turn has characters for private use")
    if not has_picture or _MARK not in text:
        return text
    return f"{PICTURE}\n{text.replace(_MARK, '').strip()}".strip()


def _plain(texts: list[str], pictures: list[Path | bytes]) -> FaithfulPrompt:
    if PICTURE not in texts[0]:
        raise BrokenRecordError("malformed", f"a caption needs a picture and the mark {_MARK!r} in its question")
    text = f"{PICTURE}{texts[1]}\n"
    shown = [pictures[min(place, len(pictures) - 1)] for place in range(text.count(PICTURE))]
    return FaithfulPrompt(text, ((len(PICTURE), len(text)),), tuple(shown))


def _asks(turn: Mapping[str, Any]) -> bool:
    return bool(turn.get("draw")) and not turn["value"].endswith("<GEN>")
