"""Options that `mgem chat`, `mgem ask` and `mgem draw` share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

__all__ = ["AsJson", "Confirm", "Draw", "Generator", "Images", "Look", "Model", "Store", "System", "Yes"]

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME", help="The reasoner: a hub id, a folder, openai:…, ollama:…, a URL."),
]
Generator = Annotated[
    str | None, typer.Option("--generator", "-g", metavar="NAME", help="What draws. See: mgem generators")
]
Draw = Annotated[
    Literal["auto", "always", "never"] | None,
    typer.Option("--draw", help="When to draw: as the model sees fit, in every turn, or never."),
]
Look = Annotated[
    int | None,
    typer.Option("--look", min=0, help="How often at most a picture that misses its caption is drawn again."),
]
Images = Annotated[
    Literal["auto", "sixel", "kitty", "blocks", "path", "none"] | None,
    typer.Option("--images", help="How pictures are shown; auto asks the terminal, and path names their files."),
]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="What the model is told at first.")]
Confirm = Annotated[
    bool | None, typer.Option("--confirm/--no-confirm", help="Ask before anything is drawn.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Draw without asking, whatever is settled.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write what happens as JSON, one object a line.")]
Store = Annotated[str | None, typer.Option("--store", metavar="FOLDER", help="Where pictures are kept.")]
