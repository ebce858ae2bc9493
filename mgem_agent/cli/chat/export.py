"""Commands that write files: /save a picture, /export the dialogue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mgem_agent.agent.transcript import read_transcript, transcript_markdown
from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.artifacts.picture_id import is_picture_id
from mgem_agent.cli.chat.command import Command
from mgem_agent.cli.chat.page import render_page
from mgem_agent.cli.chat.pdf import render_talk_pdf
from mgem_agent.cli.typed_path import typed_path
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.cli.chat.state import Chat, ChatUI

__all__ = ["COMMANDS"]

OVERWRITE = "--overwrite"
FORMATS = {"md": ".md", "html": ".html", "pdf": ".pdf", "json": ".json"}


def _save(chat: Chat, ui: ChatUI, rest: str) -> None:
    rest, may_overwrite = _without_flag(rest)
    first, _, second = rest.partition(" ")
    number, target = (first, second) if second and (first.isdecimal() or is_picture_id(first)) else ("", rest)
    if not target.strip():
        raise InputError("The file name is missing. Example: /save fox.png, or /save 2 fox.png")
    name = chat.picture(number)
    path = typed_path(target)
    path = path / f"{name}.png" if path.is_dir() else path
    if path.suffix.lower() != ".png":
        path = path.with_name(f"{path.name}.png")
    _check_free(path, may_overwrite=may_overwrite)
    write_atomically(path, chat.store.path(name).read_bytes())
    ui.display.tell(f"{name} was saved to {path}")


def _export(chat: Chat, ui: ChatUI, rest: str) -> None:
    rest, may_overwrite = _without_flag(rest)
    kind, _, target = rest.partition(" ")
    if kind not in FORMATS:
        forms = ", ".join(FORMATS)
        raise InputError(f"{kind!r} is not an export format. Formats: {forms}. Example: /export md talk.md")
    if not chat.sessions.turns(chat.session):
        raise InputError("The dialogue is empty, so there is nothing to export.")
    path = typed_path(target.strip() or f"{chat.session}{FORMATS[kind]}")
    _check_free(path, may_overwrite=may_overwrite)
    turns = read_transcript(chat.sessions.turns(chat.session))
    title = next((each.title for each in chat.sessions.list() if each.name == chat.session), "") or chat.session
    if kind == "json":
        data = json.dumps({"name": chat.session, "turns": turns}, indent=2, ensure_ascii=False)
        write_atomically(path, f"{data}\n".encode())
    elif kind == "html":
        write_atomically(path, render_page(title, turns, chat.store).encode())
    elif kind == "pdf":
        write_atomically(path, render_talk_pdf(title, turns, chat.store))
    else:
        places = _write_pictures(chat, turns, path.with_name(f"{path.stem}-pictures"))
        text = transcript_markdown(title, turns, lambda name: places.get(name, name))
        write_atomically(path, text.encode())
    ui.display.tell(f"The dialogue was exported to {path}")


def _without_flag(rest: str) -> tuple[str, bool]:
    """Remove `--overwrite` from the end of the arguments, and return whether it was given; spaces in names are kept."""
    if rest.split(" ")[-1] != OVERWRITE:
        return rest, False
    return rest.removesuffix(OVERWRITE).rstrip(), True


def _check_free(path: Path, *, may_overwrite: bool) -> None:
    """Refuse to overwrite a file without `--overwrite`."""
    if path.exists() and not may_overwrite:
        raise InputError(f"{str(path)!r} already exists. Choose another name, or add --overwrite.")


def _write_pictures(chat: Chat, turns: Sequence[dict[str, Any]], folder: Path) -> dict[str, str]:
    """Copy the pictures of turns into a folder, and return their paths relative to the folder's parent."""
    places = {}
    for name in {each["id"] for turn in turns for said in turn["said"] for each in said["pictures"]}:
        with suppress(InputError):  # one that is no longer stored keeps its id in the text
            write_atomically(folder / f"{name}.png", chat.store.path(name).read_bytes())
            places[name] = quote(f"{folder.name}/{name}.png")
    return places


COMMANDS = (
    Command("save", f"[N] FILE [{OVERWRITE}]", "Save a picture to a file.", _save, "files"),
    Command(
        "export",
        " | ".join(FORMATS) + f" [FILE] [{OVERWRITE}]",
        "Export the dialogue to a file.",
        _export,
        lambda chat: FORMATS,
    ),
)
