"""`mgem mcp`: the agent for clients of the Model Context Protocol, such as Claude, VS Code and Cursor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mgem_agent.cli.printing import open_console
from mgem_agent.cli.turn_options import Budget, Generators, Look, Model, Store

if TYPE_CHECKING:
    from mgem_agent.mcp.parts import McpParts
    from mgem_agent.settings import Settings

__all__ = ["mcp", "open_parts"]


def mcp(
    model: Model = None,
    generator: Generators = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve streamable HTTP on this address instead of stdio."),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="A folder whose files clients may name; repeatable. Default: none."),
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Ask a person before anything is drawn (MCP elicitation).")
    ] = False,
    spend: Annotated[
        Literal["ask", "allow", "refuse"],
        typer.Option(help="Before a picture that costs money: ask a person, draw it, or refuse it."),
    ] = "ask",
    links: Annotated[
        bool | None,
        typer.Option(
            "--links/--no-links",
            help="Whether results have links to the whole pictures and books. Default: for clients with a name.",
            show_default=False,
        ),
    ] = None,
    books: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder for books.")] = None,
    look: Look = None,
    budget: Budget = None,
    store: Store = None,
) -> None:
    """Serve the agent to an MCP client, on stdin and stdout or over HTTP.

    A client starts this command itself. Its configuration, for Claude, VS Code and Cursor: docs/guides/mcp.md. Nothing
    is loaded before the first call.
    """
    from mgem_agent.extras import EXTRAS, require_packages

    require_packages("'mgem mcp'", *EXTRAS["mcp"])
    from mgem_agent.cli.factories import budget_flags
    from mgem_agent.settings import load_settings

    chosen = generator or []
    settings = load_settings(
        model=model,
        generator=chosen[0] if chosen else None,
        store=store,
        look=look,
        budget=budget_flags(budget, "session"),
    )
    options: dict[str, Any] = {"confirm": confirm or settings.confirm, "spending": spend, "has_links": links}
    parts = open_parts(settings, chosen, roots=root or [], books=books, **options)
    if http is None:
        from mgem_agent.mcp.stdio import serve_stdio

        serve_stdio(parts)
        return
    from mgem_agent.mcp.http import read_address, serve_http

    console = open_console()

    def tell(address: str, token: str | None) -> None:
        if token is not None:
            console.print(f"Token, shown only once: {token}", markup=False, soft_wrap=True)
        console.print(f"Serving MCP at {address}", soft_wrap=True)

    serve_http(parts, *read_address(http), on_start=tell)


def open_parts(
    settings: Settings, generators: list[str], *, roots: list[Path], books: Path | None = None, **options: Any
) -> McpParts:
    """Return the parts of a server that the settings describe. Nothing is loaded.

    Args:
        settings: `model`, `generator`, `store`, `picture`, `sees`, `offline`, `budget`, `prices`, `look` and `story`
            are used.
        generators: Names of the generators that clients may use; the configured one if empty.
        roots: Folders whose files clients may name.
        books: Folder for books; None for the one that belongs to the pictures.
        **options: Further arguments of `McpParts`.

    Raises:
        InputError: If a root is not a folder, or a generator is unknown.
    """
    from mgem_agent.cli.factories import (
        open_named_generator,
        open_page_scoring,
        open_reasoner,
        open_store,
        prepare_reasoner,
    )
    from mgem_agent.langchain.picture_access import PictureAccess
    from mgem_agent.mcp.books import Books
    from mgem_agent.mcp.parts import McpParts
    from mgem_agent.tools.prices import Prices
    from mgem_agent.tools.registry import check_scheme
    from mgem_agent.user_files import user_path
    from mgem_agent.workflows.story_shelf import StoryShelf

    names = tuple(dict.fromkeys(generators or [settings.generator]))
    for name in names:
        check_scheme(name)

    def reasoner() -> Any:
        made = open_reasoner(settings)
        prepare_reasoner(settings, made)
        return made

    pictures = open_store(settings)
    return McpParts(
        generators=names,
        make_generator=lambda name: open_named_generator(settings, name),
        store=pictures,
        books=Books(StoryShelf.beside(pictures) if books is None else user_path(books)),
        reasoner=reasoner,
        sees=settings.sees is not False,
        access=PictureAccess.of([str(folder) for folder in roots]),
        defaults=settings.draw_defaults,
        budgets=settings.budgets,
        prices=Prices(settings.prices),
        story_options=lambda judge: open_page_scoring(settings, judge),
        **options,
    )
