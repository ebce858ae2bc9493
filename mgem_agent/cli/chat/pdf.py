"""Export a dialogue as PDF with Typst: formatted Markdown with pictures.

The dialogue is passed to Typst as data, never as source, so text in it cannot run as a command.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgem_agent.errors import InputError, ToolError

if TYPE_CHECKING:
    from mgem_agent.artifacts import ArtifactStore

__all__ = ["render_talk_pdf"]

TEMPLATE = """
#let talk = json("talk.json")
#set document(title: talk.title, author: "mgem-agent")
#set page(paper: "a4", margin: 24mm, numbering: "1")
#set text(size: 11pt)
#show raw: set text(9.5pt)
#let run(piece) = {
  let shown = if piece.code { raw(piece.text) } else { [#piece.text] }
  if piece.strong { shown = strong(shown) }
  if piece.emph { shown = emph(shown) }
  shown
}
#let set-block(it) = {
  let runs = it.runs.map(run).join()
  if it.kind == "code" { block(fill: luma(95%), inset: 8pt, radius: 3pt, width: 100%, raw(it.text, block: true)) }
  else if it.kind == "heading" { block(above: 1.4em, strong(runs)) }
  else if it.kind == "item" { block(inset: (left: (it.depth * 14pt)), [#it.mark #h(4pt) #runs]) }
  else { block(runs) }
}
#let note(words) = text(9.5pt, fill: luma(40%), words)
#title(text(20pt, talk.title))
#for said in talk.said {
  if said.who == "human" {
    block(above: 2em, width: 100%, inset: (left: 10pt, y: 6pt), stroke: (left: 2.5pt + rgb("#c60")), said.text)
  } else { for it in said.blocks { set-block(it) } }
  for picture in said.pictures {
    if picture.file == none { block(note(picture.id + " is no longer stored. " + picture.caption)) } else {
      block(breakable: false, {
        image(picture.file, alt: picture.alt, width: picture.width * 1mm)
        if picture.caption != "" { note(picture.caption) }
      })
    }
  }
  for failure in said.failures { block(note("Not drawn: " + failure)) }
}
"""
PIXELS_PER_MM = 4
MAX_WIDTH_MM = 120


def render_talk_pdf(title: str, turns: Sequence[dict[str, Any]], store: ArtifactStore) -> bytes:
    """Return a dialogue as PDF.

    Args:
        title: Heading of the document.
        turns: Turns from `read_transcript`.
        store: The picture store. A missing picture is replaced by a note.

    Raises:
        ToolError: If Typst fails.
    """
    import typst

    with tempfile.TemporaryDirectory(prefix="mgem-talk-") as name:
        folder = Path(name)
        said = [
            {
                "who": speech["who"],
                "text": speech["text"],
                "blocks": list(markdown_blocks(speech["text"])),
                "pictures": [_picture(each, store, folder) for each in speech["pictures"]],
                "failures": [each["caption"] or each["message"] for each in speech["failures"]],
            }
            for turn in turns
            for speech in turn["said"]
        ]
        (folder / "talk.typ").write_text(TEMPLATE, encoding="utf-8")
        (folder / "talk.json").write_text(json.dumps({"title": title, "said": said}), encoding="utf-8")
        try:
            data, _ = typst.compile_with_warnings(str(folder / "talk.typ"), root=str(folder), format="pdf")
        except typst.TypstError as error:
            raise ToolError(
                f"The PDF cannot be written: {error.message}. Export the dialogue as html or md instead."
            ) from error
        return bytes(data)


def markdown_blocks(text: str) -> Iterator[dict[str, Any]]:
    r"""Yield the blocks of Markdown text.

    Yields:
        Dicts with `kind` (paragraph, heading, item or code) and `runs` of text with `strong`, `emph` and `code`; an
        item also has `depth` (from 0) and `mark`, and code has `text`.

    Examples:
        >>> [(block["kind"], block["runs"][0]["text"]) for block in markdown_blocks("# Fox\n\n1. red")]
        [('heading', 'Fox'), ('item', 'red')]
    """
    from markdown_it import MarkdownIt

    lists: list[int | None] = []
    mark, is_heading = "", False
    for token in MarkdownIt("commonmark", {"html": False}).enable("strikethrough").parse(text):
        if token.type in ("fence", "code_block"):
            yield {"kind": "code", "runs": [], "text": token.content.rstrip("\n")}
        elif token.type in ("bullet_list_open", "ordered_list_open"):
            lists.append(int(token.attrGet("start") or 1) if token.type.startswith("ordered") else None)
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            lists.pop()
        elif token.type == "list_item_open":
            number = lists[-1]
            mark = "•" if number is None else f"{number}."
            lists[-1] = None if number is None else number + 1
        elif token.type in ("heading_open", "heading_close"):
            is_heading = token.type == "heading_open"
        elif token.type == "inline":
            kind = "heading" if is_heading else "item" if lists else "paragraph"
            yield {"kind": kind, "runs": list(_runs(token)), "depth": len(lists) - 1, "mark": mark}
            mark = ""


def _runs(inline: Any) -> Iterator[dict[str, Any]]:
    """Yield the runs of a line that have one style."""
    strong = emph = 0
    for token in inline.children:
        strong += token.nesting if token.type.startswith("strong") else 0
        emph += token.nesting if token.type.startswith("em_") else 0
        text = {"softbreak": " ", "hardbreak": "\n"}.get(token.type, token.content)
        if text:
            yield {"text": text, "strong": strong > 0, "emph": emph > 0, "code": token.type == "code_inline"}


def _picture(picture: dict[str, Any], store: ArtifactStore, folder: Path) -> dict[str, Any]:
    """Return a picture for the template, copied to its folder; `file` is None if it is no longer stored."""
    caption = picture["caption"]
    shown: dict[str, Any] = {"id": picture["id"], "caption": caption, "file": None}
    with suppress(InputError):
        artifact = store.get(picture["id"])
        shutil.copyfile(store.path(artifact.id), folder / f"{artifact.id}.png")
        width = min(artifact.width / PIXELS_PER_MM, MAX_WIDTH_MM)
        shown |= {"file": f"{artifact.id}.png", "alt": caption or "A picture that was shown", "width": width}
    return shown
