"""`mgem data`: make training data: scenes with questions, texts that teach to draw, and their card."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from mgem_agent.cli.printing import echo, open_console

__all__ = ["app"]

app = typer.Typer(
    help="Make training data. What is there already is kept: an interrupted command goes on when it is run again.",
    no_args_is_help=True,
)

_Split = Literal["train", "held_out"]

_Folder = Annotated[Path, typer.Argument(help="Folder for the data.")]
_Number = Annotated[int, typer.Option("--num", "-n", min=1, help="How many there shall be in all.")]
_SplitOption = Annotated[_Split, typer.Option(help="What to train on, or what is never trained on.")]
_Seed = Annotated[int, typer.Option(min=0, help="Seed of the series.")]


@app.command("scenes")
def _scenes(
    folder: _Folder,
    num: _Number = 1000,
    split: _SplitOption = "train",
    kind: Annotated[
        Literal["any", "drawable", "several", "page"],
        typer.Option(help="Everything; one or two large things; a few different things; printed words alone."),
    ] = "any",
    seed: _Seed = 0,
    size: Annotated[int, typer.Option(min=16, help="Width and height of the pictures, in pixels.")] = 256,
    picture_format: Annotated[
        Literal["webp", "png"], typer.Option("--format", help="Format of the pictures.")
    ] = "webp",
    processes: Annotated[int | None, typer.Option(min=1, help="How many draw at once; one for each core.")] = None,
    emoji: Annotated[
        Path | None, typer.Option(help="Folder that has the emoji set, in archives or unpacked; else it is fetched.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
) -> None:
    """Scenes with captions, questions and dialogues, as records with pictures beside them.

    The emoji pictures that scenes are composed from are fetched once, 22 MB, from the npm registry.
    """
    from mgem_agent.recipes.nano.world.dataset import SceneDataSettings, write_scenes
    from mgem_agent.recipes.nano.world.emoji import EmojiAssets

    assets = EmojiAssets.open(offline=offline, source=emoji)
    settings = SceneDataSettings(split, kind, seed, size, picture_format)
    with _bar("Scenes", num) as report:
        path = write_scenes(
            folder, num, assets, settings, num_processes=processes or os.cpu_count() or 1, report=report
        )
    echo(path)


@app.command("generation")
def _generation(folder: _Folder, num: _Number = 13_000, split: _SplitOption = "train", seed: _Seed = 0) -> None:
    """Texts that teach when and what to draw, from templates."""
    from mgem_agent.recipes.nano.world.generation_dataset import GenerationDataSettings, write_generation

    echo(write_generation(folder, num, GenerationDataSettings(split, seed)))


@app.command("teach")
def _teach(
    sources: Annotated[
        Path, typer.Argument(help="Descriptions, one a line; or records with conversations (JSON lines).")
    ],
    out: Annotated[Path, typer.Argument(help="File of records to write (.jsonl).")],
    model: Annotated[str, typer.Option("--model", "-m", help="The teacher, such as openai:gpt-4.1.")],
    kind: Annotated[
        Literal["recaption", "in_context"],
        typer.Option(help="A short wish and its caption for each description, or captions for each conversation."),
    ] = "recaption",
    num: Annotated[int | None, typer.Option("--num", "-n", min=1, help="Only so many of the sources.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Most questions that are under way at once.")] = 4,
    seed: _Seed = 0,
    input_price: Annotated[float, typer.Option(min=0, help="Price of a million tokens that are read.")] = 0.0,
    output_price: Annotated[float, typer.Option(min=0, help="Price of a million tokens that are written.")] = 0.0,
) -> None:
    """Texts that teach to draw, from a large chat model, by the paper's recipe."""
    from mgem_agent.reasoners import make_reasoner
    from mgem_agent.recipes.data.teacher import read_sources, teach

    found = read_sources(sources, kind)[:num]
    teacher = make_reasoner(model, tool_calling="native")  # its own tools are not bound, so it answers in text
    with _bar("Sources", len(found)) as report:
        result = teach(teacher, found, out, kind=kind, seed=seed, max_concurrency=concurrency, report=report)
    echo(out)
    echo(f"kept {result.num_kept}, done before {result.num_done_before}, failed {result.num_failed}")
    for reason, number in result.rejected.most_common():
        echo(f"rejected {number}: {reason}")
    tokens = f"tokens: {result.num_input_tokens} read, {result.num_output_tokens} written"
    cost = result.cost(input_price=input_price, output_price=output_price)
    echo(f"{tokens}, cost {cost:.2f}" if cost else tokens)
    if result.num_failed:
        echo(f"Run it again for those that failed. The last said: {result.last_failure}", err=True)
        raise typer.Exit(1)


@app.command("stories")
def _stories(folder: _Folder, num: _Number = 1000, seed: _Seed = 0) -> None:
    """Questions of the storytelling workflow, answered from small stories put together from parts."""
    from mgem_agent.prompts import render_prompt
    from mgem_agent.recipes.nano.world.story_dialogues import write_stories

    echo(write_stories(folder, num, render_prompt, seed))


@app.command("replay")
def _replay(
    folder: _Folder,
    num: _Number = 400,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The language model: nano's, or a folder or hub id of transformers.")
    ] = "nano",
    prompt_template: Annotated[str, typer.Option(help="Dialogue format that it is asked in.")] = "chatml",
    seed: _Seed = 0,
) -> None:
    """Answers in the language model's own words, which keep it what it is while it learns to see."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mgem_agent.nano import find_language_model
    from mgem_agent.nano.gguf_conversion import quiet_transformers
    from mgem_agent.recipes.data.replay import write_replay

    source = str(find_language_model()) if model == "nano" else model
    with quiet_transformers():
        loaded = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    with _bar("Answers", num) as report:
        path = write_replay(
            folder,
            num,
            loaded,
            AutoTokenizer.from_pretrained(source),
            prompt_template=prompt_template,
            seed=seed,
            report=report,
        )
    echo(path)


@app.command("card")
def _card(folder: _Folder) -> None:
    """The data card of a folder: what is in its records, counted."""
    from mgem_agent.recipes.nano.world.data_card import write_data_card

    echo(write_data_card(folder))


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr for as long as something takes, where someone is at a terminal."""
    from rich.progress import Progress

    console = open_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
