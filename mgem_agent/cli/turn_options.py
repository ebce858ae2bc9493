"""Options that `mgem chat`, `mgem ask` and `mgem draw` share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

__all__ = [
    "AsJson",
    "Budget",
    "Confirm",
    "Draw",
    "Generator",
    "Generators",
    "Images",
    "Look",
    "Memory",
    "Model",
    "Store",
    "System",
    "Yes",
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="The reasoner (chat model): nano, openai:…, ollama:…, a hub id, a folder or a URL.",
    ),
]
Generator = Annotated[
    str | None,
    typer.Option("--generator", "-g", metavar="NAME", help="The image generator. List them: mgem generators"),
]
Generators = Annotated[
    list[str] | None,
    typer.Option(
        "--generator",
        "-g",
        metavar="NAME",
        help="An image generator that clients may use; repeatable. The first is the default.",
    ),
]
Draw = Annotated[
    Literal["auto", "always", "never"] | None,
    typer.Option("--draw", help="When to draw: when the model decides to, in every turn, or never."),
]
Look = Annotated[
    str | None,
    typer.Option(
        "--look",
        metavar="N|STRATEGY",
        help="Redraw a picture that does not match its caption: at most N times, or by retry, revise, edit (such as "
        "revise-3, or revise-3@0.8 with a threshold) or best-of-4.",
    ),
]
Memory = Annotated[
    Literal["auto", "keep", "swap", "unload"] | None,
    typer.Option(
        "--memory",
        help="What happens to the idle one of the model and the generator on one GPU: keep it there, swap it to main "
        "memory, unload it, or auto: keep both if they fit. Show the numbers: mgem doctor",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="LIMITS",
        help="Limits of what is spent, such as 0.50usd,20pictures,10min,50000tokens; each may end in /turn, /session "
        "or /book.",
    ),
]
Images = Annotated[
    Literal["auto", "sixel", "kitty", "blocks", "path", "none"] | None,
    typer.Option("--images", help="How to show pictures: auto asks the terminal, path prints the file name."),
]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="System prompt for the reasoner.")]
Confirm = Annotated[bool | None, typer.Option("--confirm/--no-confirm", help="Ask before drawing.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Draw without asking, even if the settings say to ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print events as JSON Lines.")]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="FOLDER", help="Folder, or address such as s3://bucket/prefix, for pictures."),
]
