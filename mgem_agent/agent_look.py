"""Looking at what was drawn: the reasoner judges a picture against its caption.

The verdict is asked for as JSON, and small models do not always write any: what cannot be read is no verdict, and the
picture stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.utils.json import parse_json_markdown

__all__ = ["Verdict", "look_message", "read_verdict"]

QUESTION = """This picture was drawn from the caption below. Does it show what the caption says?

Caption: {caption}

Answer with JSON alone: {{"follows": true or false, "score": 0 to 10, "problem": "what is wrong, or nothing", \
"caption": "a caption that would mend it, or nothing"}}"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the reasoner thinks of a picture.

    Attributes:
        follows: Whether it follows its caption; None where that could not be read.
        score: From 0 to 10, or None.
        problem: What is wrong with it.
        caption: What should be drawn instead; empty for the same again.
    """

    follows: bool | None = None
    score: float | None = None
    problem: str = ""
    caption: str = ""


def look_message(artifact_id: str, caption: str) -> BaseMessage:
    """The question about a stored picture."""
    return HumanMessage(
        content=[
            {"type": "image", "file_id": artifact_id},
            {"type": "text", "text": QUESTION.format(caption=caption)},
        ]
    )


def read_verdict(text: str) -> Verdict:
    """Read an answer.

    Args:
        text: What the reasoner said.

    Example:
        >>> read_verdict('{"follows": false, "score": 3, "problem": "no hat"}')
        Verdict(follows=False, score=3.0, problem='no hat', caption='')
        >>> read_verdict("It is nice.").follows is None
        True
    """
    start, end = text.find("{"), text.rfind("}")
    try:
        said = parse_json_markdown(text[start : end + 1]) if 0 <= start < end else None
    except (json.JSONDecodeError, ValueError):
        said = None
    if not isinstance(said, Mapping) or not isinstance(said.get("follows"), bool):
        return Verdict()
    return Verdict(said["follows"], _score(said.get("score")), _words(said.get("problem")), _words(said.get("caption")))


def _score(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return min(max(float(value), 0.0), 10.0)


def _words(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
