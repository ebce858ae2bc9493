"""`mgem images`: list stored pictures, show their details and lineage, and redraw them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.printing import echo, echo_json, open_console

if TYPE_CHECKING:
    from rich.tree import Tree

    from mgem_agent.artifacts import Artifact, ArtifactStore, PictureRecipe
    from mgem_agent.tools import ImageResult

__all__ = ["app"]

app = typer.Typer(help="List, show and redraw stored pictures.", no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
_Id = Annotated[str, typer.Argument(metavar="ID", help="A picture's id, or the first characters of it.")]


@app.command("list")
def _list(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of pictures.")] = 20,
    as_json: _AsJson = False,
) -> None:
    """List the stored pictures, newest first."""
    store = _store()
    skipped: list[Path] = []
    artifacts = store.list(limit, on_skip=lambda path, _: skipped.append(path))
    if as_json:
        echo_json([_as_data(artifact, store) for artifact in artifacts])
    else:
        _print_list(artifacts, store)
    if skipped:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        echo(f"Skipped, not readable: {skipped[0]}{more}. For the reason, run: mgem doctor", err=True)


def _print_list(artifacts: list[Artifact], store: ArtifactStore) -> None:
    from rich.table import Table
    from rich.text import Text

    from mgem_agent.cli.display.table import print_table

    console = open_console()
    if not artifacts:
        console.print(f"No pictures in {store.place}.", markup=False, soft_wrap=True)
        return
    rows = [
        (
            artifact.id,
            f"{artifact.local_time:%Y-%m-%d %H:%M}",
            f"{artifact.width}×{artifact.height}",
            artifact.recipe.generator.partition(":")[0] if artifact.recipe else "",
            "" if artifact.seed is None else str(artifact.seed),
            artifact.title,
        )
        for artifact in artifacts
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate(("id", "made", "size", "by", "seed")):
        # Only the last column shrinks on a narrow terminal: a truncated id would be useless.
        table.add_column(title, no_wrap=True, min_width=max(len(row[place]) for row in rows))
    table.add_column("what", overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    print_table(console, table)


@app.command("show")
def _show(artifact_id: _Id, as_json: _AsJson = False) -> None:
    """Show a picture's details: how it was drawn, and where its file is."""
    store = _store()
    artifact = store.get(artifact_id)
    if as_json:
        echo_json(_as_data(artifact, store))
    else:
        _print_artifact(artifact, store)


def _print_artifact(artifact: Artifact, store: ArtifactStore) -> None:
    """Print the facts as `name  value` lines, without those that have no value."""
    facts: dict[str, Any] = {
        "id": artifact.id,
        "file": store.path(artifact.id),
        "size": f"{artifact.width}×{artifact.height}",
        "made": f"{artifact.local_time:%Y-%m-%d %H:%M:%S %Z}",
        "origin": artifact.origin,
    }
    if artifact.recipe is not None:
        request = artifact.recipe.request
        facts |= {"generator": artifact.recipe.generator, "model": artifact.recipe.model}
        facts |= {
            name.replace("_", " "): value
            for name, value in request.model_dump(exclude_none=True, exclude_defaults=True).items()
            if name not in ("width", "height")
        }
    facts |= {"parents": ", ".join(artifact.parents), "seconds": artifact.seconds, "cost": _cost(artifact, store)}
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in artifact.versions.items())
    _print_facts(facts)
    for attempt in artifact.attempts:
        score = "not scored" if attempt.score is None else f"{attempt.score:.0%}"
        problem = f" {attempt.problem}" if attempt.problem else ""
        _print_facts({"attempt": f"{attempt.picture} {score}: {attempt.prompt}{problem}"})
    for notice in artifact.notices:
        _print_facts({"notice": f"{notice.argument}: {notice.message}"})


def _cost(artifact: Artifact, store: ArtifactStore) -> str | None:
    """What a picture has cost, also with those that it was made from; None if the price is not known."""
    if artifact.cost_usd is None:
        return None
    made_from = [each.cost_usd or 0.0 for each in store.lineage(artifact.id).values() if each is not None]
    total = f" ({sum(made_from):.4g} USD with the pictures that it was made from)" if len(made_from) > 1 else ""
    return f"{artifact.cost_usd:.4g} USD{total}"


def _print_facts(facts: dict[str, Any]) -> None:

    console = open_console(soft_wrap=True)
    for name, value in facts.items():
        if value not in (None, "", ()):
            console.print(f"[bold]{name:<21}[/]", end="")
            console.print(str(value), markup=False)


@app.command("lineage")
def _lineage(artifact_id: _Id, as_json: _AsJson = False) -> None:
    """Show the pictures that a picture was made from, as a tree."""
    store = _store()
    found = store.lineage(artifact_id)
    if as_json:
        data = {name: artifact and _as_data(artifact, store) for name, artifact in found.items()}
        echo_json(data)
    else:
        open_console().print(_tree(found))


def _tree(found: dict[str, Artifact | None]) -> Tree:
    """The tree of a lineage; a picture that appears again is named without repeating its parents."""
    from rich.text import Text
    from rich.tree import Tree

    first = next(iter(found))
    tree = Tree(_label(first, found[first]))
    shown = {first}
    waiting = [(tree, found[first])]
    while waiting:
        branch, artifact = waiting.pop(0)
        for parent in artifact.parents if artifact else ():
            if parent in shown:
                branch.add(Text(f"{parent}  (see above)"))
            else:
                shown.add(parent)
                waiting.append((branch.add(_label(parent, found.get(parent))), found.get(parent)))
    return tree


def _label(name: str, artifact: Artifact | None) -> Any:
    from rich.text import Text

    if artifact is None:
        return Text(f"{name}  (not kept)")
    task = artifact.recipe.request.task if artifact.recipe else "given"
    title = artifact.title
    return Text(f"{name}  {task}: {title}", no_wrap=True, overflow="ellipsis")


@app.command("redraw")
def _redraw(
    picture: Annotated[str, typer.Argument(metavar="ID_OR_FILE", help="A picture's id, or a PNG drawn by mgem.")],
    generator: Annotated[
        str | None,
        typer.Option("--generator", "-g", help="Draw with this generator instead. List them: mgem generators"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the picture to this PNG file.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Use the generator named in the picture without asking.")
    ] = False,
) -> None:
    """Redraw a picture with the same request, and report whether the result is identical.

    The request is read from the store or from the PNG itself, so a file from someone else works too. The new picture
    is stored; an identical one is not stored twice.

    The file also names the generator (a server's address or a model), so you are asked before it is used. A key is only
    sent to the server that it belongs to.
    """
    from mgem_agent.artifacts import PictureRecipe, encode_picture
    from mgem_agent.artifacts.atomic_file import write_atomically
    from mgem_agent.artifacts.comparison import compare_picture
    from mgem_agent.cli.factories import open_named_generator
    from mgem_agent.cli.recorded_generator import agree_to_generators, configured_name
    from mgem_agent.settings import load_settings

    store = _store()
    recipe, path = _recipe_of(picture, store)
    settings = load_settings()
    if generator is None:
        agree_to_generators([recipe.generator], settings, source=picture, yes=yes)
        generator = configured_name(recipe.generator, settings)
    drawing = open_named_generator(settings, generator)
    result = _draw_again(recipe, drawing, store)
    if result.image is None:
        raise result.error or RuntimeError("a result must have a picture or an error")
    data = encode_picture(result.image, PictureRecipe.of(result))
    artifact = store.put(result)
    if out is not None:
        write_atomically(out, data)
    _print_facts({"id": artifact.id, "file": out or store.path(artifact.id)})
    for notice in result.notices:
        _print_facts({"notice": f"{notice.argument}: {notice.message}"})
    _print_facts({"compared": compare_picture(data, path)})


def _store() -> ArtifactStore:
    """The picture store that the settings name."""
    from mgem_agent.cli.factories import open_store
    from mgem_agent.settings import load_settings

    return open_store(load_settings())


def _recipe_of(picture: str, store: ArtifactStore) -> tuple[PictureRecipe, Path]:
    """The recipe of a picture, and its file."""
    from mgem_agent.artifacts import read_recipe
    from mgem_agent.cli.typed_path import typed_path
    from mgem_agent.errors import InputError

    path = typed_path(picture)
    if os.path.isfile(path):
        recipe = read_recipe(path)
    else:
        artifact = store.get(picture)
        recipe, path = artifact.recipe, store.path(artifact.id)
    if recipe is None:
        raise InputError(
            f"{picture!r} has no record of how it was drawn, so it cannot be redrawn. Give a picture drawn by mgem."
        )
    return recipe, path


def _draw_again(recipe: PictureRecipe, generator: Any, store: ArtifactStore) -> ImageResult:
    from rich.progress import Progress

    from mgem_agent.tools import GenerationProgress, draw

    pictures = {name: store.open(name) for name in recipe.request.picture_ids}
    with Progress(console=open_console(stderr=True), transient=True) as bar:
        task = bar.add_task("Drawing", total=None)
        for event in draw(generator, [recipe.request], pictures=pictures):
            if isinstance(event, GenerationProgress):
                bar.update(task, completed=event.step, total=event.num_steps or None)
            else:
                return event
    raise RuntimeError("drawing ended without a result")


def _as_data(artifact: Artifact, store: ArtifactStore) -> dict[str, Any]:
    data: dict[str, Any] = artifact.model_dump(mode="json", exclude_none=True)
    return data | {"file": str(store.path(artifact.id))}
