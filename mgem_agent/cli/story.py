"""`mgem story`: tell an illustrated story as a book, from a recipe file, a built-in recipe or a premise.

Running the same command again continues a story that was interrupted: finished texts are in the folder and finished
pictures in the store. A book of all finished pages is written whenever the command ends, even early.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperGroup

from mgem_agent.cli import batches, turn_options
from mgem_agent.cli.factories import budget_flags
from mgem_agent.cli.printing import echo, echo_json
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.workflows.book import BookFormat

__all__ = ["app"]

FORMATS = ("html", "md", "pdf")
DEFAULT_COMMAND = "tell"


class StoryGroup(TyperGroup):
    """Commands with `tell` as the default: `mgem story recipe.yaml` is `mgem story tell recipe.yaml`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `tell` if the first argument is not a command."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=StoryGroup,
    help="Tell an illustrated story as a book: `mgem story RECIPE --out book/`.",
    no_args_is_help=True,
)

_AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.command("tell")
def _tell(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE_OR_NAME_OR_PREMISE",
            help="A recipe file, the name of a built-in recipe, or a premise. Several with --batch.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for the book; with --batch, for one folder of each book.  [default: book, or books]",
        ),
    ] = None,
    model: turn_options.Model = None,
    generator: turn_options.Generator = None,
    kind: Annotated[Literal["story", "how_to", "explainer"] | None, typer.Option(help="Kind of text.")] = None,
    scenes: Annotated[int | None, typer.Option(min=1, max=64, help="Number of scenes.")] = None,
    style: Annotated[str | None, typer.Option(help="Style of every picture.")] = None,
    language: Annotated[str | None, typer.Option(metavar="TAG", help="Language of the text, such as de.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the pictures.")] = None,
    consistency: Annotated[
        Literal["auto", "seed+card", "ip_adapter", "reference", "none"] | None,
        typer.Option(help="How characters are kept consistent between pictures."),
    ] = None,
    formats: Annotated[
        str, typer.Option(metavar="LIST", help="Book formats, separated by commas: html, md, pdf.")
    ] = "html,md,pdf",
    approve: Annotated[bool, typer.Option("--approve", help="Ask for approval of the outline before drawing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve the outline without asking.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the story in the --out folder.")] = False,
    look: turn_options.Look = None,
    memory: turn_options.Memory = None,
    scores: Annotated[
        bool | None,
        typer.Option(
            "--scores/--no-scores",
            help="Score every page, and print the scores on the book's last page.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Picture encoder of the scores: nano, open_clip:MODEL:WEIGHTS, hf:FOLDER, or none. Default: nano.",
        ),
    ] = None,
    budget: turn_options.Budget = None,
    store: turn_options.Store = None,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="Tell several stories, such as recipes/*.yaml; one that fails stops no other."),
    ] = False,
    ray: batches.Ray = None,
    workers: batches.Workers = None,
    gpus: batches.Gpus = None,
    as_json: _AsJson = False,
) -> None:
    """Tell a story, or several with --batch. Run the same command again to continue what was interrupted.

    Example: mgem story --batch recipes/*.yaml --out books --ray local --workers 4
    """
    from mgem_agent.cli.story_telling import StoryTelling
    from mgem_agent.settings import load_settings

    settings = load_settings(
        model=model,
        generator=generator,
        store=store,
        look=look,
        memory_policy=memory,
        budget=budget_flags(budget, "book"),
        story={"scores": scores, "encoder": encoder},
    )
    options = {
        "kind": kind,
        "scenes": scenes,
        "style": style,
        "language": language,
        "seed": seed,
        "consistency": consistency,
    }
    given, forms = recipe or [], _formats(formats)
    where = batches.ray_options(ray, workers, gpus)
    if batch:
        _check_batch(given, {"--approve": approve, "--yes": yes, "--resume": resume})
        from mgem_agent.cli.story_batch import story_batch

        story_batch(given, options, settings, forms, out=out or Path("books"), ray=where, as_json=as_json)
        return
    if where is not None:
        raise InputError("--ray applies to several stories. Add --batch, with one or more recipes.")
    if len(given) > 1:
        raise InputError(
            f"{len(given)} stories were given. Add --batch to tell several, or put a premise of several words in "
            f"quotes."
        )
    telling = StoryTelling(settings, out or Path("book"), forms, approve=approve, yes=yes, as_json=as_json)
    if resume:
        telling.resume(given[0] if given else None, options)
    elif not given:
        raise InputError(
            "No story was given. Give a recipe, a premise, or --resume. List the built-in recipes: mgem story recipes"
        )
    else:
        telling.tell(given[0], options)


def _check_batch(given: list[str], questions: dict[str, bool]) -> None:
    """Refuse a batch without stories, and options that ask a person."""
    if not given:
        raise InputError("No story was given. Give one or more recipes, such as: mgem story --batch recipes/*.yaml")
    if wrong := [name for name, is_given in questions.items() if is_given]:
        raise InputError(
            f"{wrong[0]} applies to one story. Leave it out: a batch asks nothing, and continues by itself."
        )


def _formats(text: str) -> tuple[BookFormat, ...]:
    """Read a comma-separated list of book formats."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in FORMATS]
    if wrong or not names:
        raise InputError(f"{text!r} is not a list of book formats. Allowed: {', '.join(FORMATS)}, separated by commas.")
    return cast("tuple[BookFormat, ...]", tuple(dict.fromkeys(names)))


@app.command("recipes")
def _recipes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False) -> None:
    """List the built-in story recipes."""
    from mgem_agent.recipes.stories import story_recipe_files
    from mgem_agent.workflows import load_story_recipe

    found = {name: load_story_recipe(path) for name, path in story_recipe_files().items()}
    if as_json:
        echo_json(
            [
                {"name": name, "title": recipe.title, "kind": recipe.kind, "language": recipe.language}
                | {"scenes": recipe.num_scenes}
                for name, recipe in found.items()
            ]
        )
        return
    width = max(map(len, found))
    for name, recipe in found.items():
        about = f"{recipe.kind.replace('_', '-')}, {recipe.language}, {recipe.num_scenes} scenes"
        echo(f"{name:<{width}}  {recipe.title or recipe.premise.splitlines()[0][:60]} ({about})")


@app.command("schema")
def _schema() -> None:
    """Print the JSON Schema of story recipes, for editors and validators."""
    from mgem_agent.workflows import StoryRecipe

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **StoryRecipe.model_json_schema()}
    echo_json(schema)


@app.command("replay")
def _replay(
    story: Annotated[Path, typer.Argument(metavar="STORY_JSON", help="A story folder, or the story.json in it.")],
    generator: turn_options.Generator = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Write a new book to this folder.")
    ] = None,
    formats: Annotated[
        str, typer.Option(metavar="LIST", help="Book formats, separated by commas: html, md, pdf.")
    ] = "html,md,pdf",
    page: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="N", help="Redraw only this page (the first is 1); repeatable. Default: all pages."
        ),
    ] = None,
    store: turn_options.Store = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Use the generators named in the story file without asking.")
    ] = False,
    as_json: _AsJson = False,
) -> None:
    """Redraw every picture of a story and report whether each one is identical, byte for byte.

    The story file names the generators (a server's address or a model), so you are asked before they are used.

    Exit status: 0 if all pictures are identical, 1 otherwise.
    """
    from mgem_agent.cli.story_replay import replay
    from mgem_agent.settings import load_settings

    settings = load_settings(store=store)
    forms, pages = _formats(formats), tuple(page or ())
    replay(story, settings, generator=generator, out=out, forms=forms, yes=yes, pages=pages, as_json=as_json)
