"""Convert a session to a transcript, as data or as Markdown. Pictures are given by their ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mgem_agent.foreign_markdown import disarmed_markdown, foreign_markdown, is_steering
from mgem_agent.tools.printable_text import terminal_text

__all__ = ["read_transcript", "transcript_markdown"]

SPEAKERS = {"human": "You", "ai": "Answer"}


def read_transcript(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the turns of a session as data.

    Args:
        records: Records from `Sessions.turns`.

    Returns:
        For each turn `id`, `created`, `outcome`, `cost`, and a list `said` of messages. A message has `who` (`human` or
        `ai`), `text` without control sequences, `pictures` and `failures`. A picture has `id`, `caption` and, if it was
        looked at, `attempts`; a failure has `caption` and `message`.
    """
    return [
        {
            "id": record["id"],
            "created": record.get("created"),
            "outcome": record.get("outcome"),
            "said": _said(record),
            "cost": record.get("cost", {}),
        }
        for record in records
    ]


def transcript_markdown(
    title: str, turns: Sequence[dict[str, Any]], place_of: Callable[[str], str] = lambda name: name
) -> str:
    """Return a transcript as Markdown. HTML in messages is escaped, and only the session's own pictures are embedded.

    Args:
        title: Heading of the document.
        turns: Turns from `read_transcript`.
        place_of: Returns the link target of a picture; the picture's id if not given.
    """

    def picture(each: dict[str, Any]) -> str:
        return f"![{_alt(each['caption'])}]({place_of(each['id'])})"

    # A code block that one message opens and does not close would change the meaning of the next messages.
    is_safe = not is_steering(_markdown(title, turns, foreign_markdown, lambda each: ""))
    return _markdown(title, turns, foreign_markdown if is_safe else disarmed_markdown, picture)


def _markdown(
    title: str,
    turns: Sequence[dict[str, Any]],
    disarm: Callable[[str], str],
    picture: Callable[[dict[str, Any]], str],
) -> str:
    parts = [disarm(f"# {_one_line(title)}")]
    for turn in turns:
        for said in turn["said"]:
            if said["text"]:
                parts.append(disarm(f"**{SPEAKERS[said['who']]}:** {said['text']}"))
            parts += map(picture, said["pictures"])
            missing = (_one_line(each["caption"] or each["message"]) for each in said["failures"])
            parts += [disarm(f"*Not drawn:* {caption}") for caption in missing]
    return "\n\n".join(parts) + "\n"


def _said(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a turn in order; the result of a tool call belongs to the answer that made the call."""
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    from mgem_agent.agent.messages import from_records

    drawn = {each["call_id"]: _picture(each) for each in record["pictures"]}
    failed = {each["call_id"]: {"caption": each["prompt"], "message": each["message"]} for each in record["failures"]}
    said: list[dict[str, Any]] = []
    for message in from_records(record["messages"]):
        if isinstance(message, (HumanMessage, AIMessage)):
            said.append({"who": message.type, "text": _plain(str(message.text)), "pictures": [], "failures": []})
        if isinstance(message, HumanMessage):
            said[-1]["pictures"] += [
                {"id": block["file_id"], "caption": ""}
                for block in message.content
                if isinstance(block, dict) and "file_id" in block
            ]
        elif isinstance(message, ToolMessage) and said:
            if message.tool_call_id in drawn:
                said[-1]["pictures"].append(drawn[message.tool_call_id])
            elif message.tool_call_id in failed:
                said[-1]["failures"].append(failed[message.tool_call_id])
    return said


def _picture(record: dict[str, Any]) -> dict[str, Any]:
    attempts = {"attempts": record["attempts"]} if record.get("attempts") else {}
    return {"id": record["artifact"], "caption": record["prompt"]} | attempts


def _plain(text: str) -> str:
    return terminal_text(text).strip()


def _one_line(text: str) -> str:
    return _plain(" ".join(text.split()))


def _alt(caption: str) -> str:
    """Return a caption as the alt text of a picture, without brackets, which would end it."""
    return disarmed_markdown(_one_line(caption).replace("[", "(").replace("]", ")"))
