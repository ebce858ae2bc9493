"""The agent's look at what it drew: the question about a stored picture, and the answer as its events report it.

The judging itself is `mgem_agent.image_verdict`, the same as for everyone. Events and stored turns count the score from
0 to 10.
"""

from __future__ import annotations

from dataclasses import replace

from langchain_core.messages import BaseMessage

from mgem_agent.image_verdict import MAX_SCORE, Verdict, look_question, parse_verdict

__all__ = ["Verdict", "look_message", "read_verdict"]


def look_message(artifact_id: str, caption: str) -> BaseMessage:
    """The question about a stored picture."""
    return look_question({"type": "image", "file_id": artifact_id}, caption)


def read_verdict(text: str) -> Verdict:
    """Read an answer, its score from 0 to 10.

    Example:
        >>> read_verdict('{"follows": false, "score": 3, "problem": "no hat"}')
        Verdict(follows=False, score=3.0, problem='no hat', caption='')
    """
    verdict = parse_verdict(text)
    return verdict if verdict.score is None else replace(verdict, score=round(verdict.score * MAX_SCORE, 9))
