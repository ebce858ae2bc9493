"""`mgem data`: get, check and generate training data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from mgem_agent.cli.data_check import check_data
from mgem_agent.cli.data_mix import get_data, list_sources
from mgem_agent.cli.data_ocr import add_ocr
from mgem_agent.cli.data_pack import index_data, pack_data
from mgem_agent.cli.data_teach import teach_data
from mgem_agent.cli.printing import echo, open_console

__all__ = ["app"]

app = typer.Typer(
    help="Get, check and generate training data. Existing records are kept: run a command again to continue it.",
    no_args_is_help=True,
)
app.command("get")(get_data)
app.command("sources")(list_sources)
app.command("check")(check_data)
app.command("pack")(pack_data)
app.command("index")(index_data)
app.command("ocr")(add_ocr)
app.command("teach")(teach_data)

_Split = Literal["train", "held_out"]

_Folder = Annotated[Path, typer.Argument(help="Output folder.")]
_Number = Annotated[int, typer.Option("--num", "-n", min=1, help="Total number of records.")]
_SplitOption = Annotated[_Split, typer.Option(help="Training data, or held-out data for evaluation.")]
_Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]


@app.command("scenes")
def _scenes(
    folder: _Folder,
    num: _Number = 1000,
    split: _SplitOption = "train",
    kind: Annotated[
        Literal["any", "drawable", "several", "page", "asked", "chart", "unclear"],
        typer.Option(
            help="Scene type: any; one or two large things; a few different things; a page of text; scenes with many "
            "questions about places, numbers, colours and charts; patterns that show nothing."
        ),
    ] = "any",
    seed: _Seed = 0,
    size: Annotated[int, typer.Option(min=16, help="Width and height of the pictures, in pixels.")] = 256,
    picture_format: Annotated[Literal["webp", "png"], typer.Option("--format", help="Image format.")] = "webp",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of worker processes. Default: one per core.")
    ] = None,
    emoji: Annotated[
        Path | None, typer.Option(help="Folder with the emoji set, packed or unpacked. Default: download it.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not use the network.")] = False,
) -> None:
    """Generate scenes with captions, questions and dialogues, as records and picture files.

    Scenes are composed from emoji pictures, which are downloaded once (22 MB) from the npm registry.
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
    """Generate dialogues from templates that teach when and what to draw."""
    from mgem_agent.recipes.nano.world.generation_dataset import GenerationDataSettings, write_generation

    echo(write_generation(folder, num, GenerationDataSettings(split, seed)))


@app.command("stories")
def _stories(folder: _Folder, num: _Number = 1000, seed: _Seed = 0) -> None:
    """Generate answers to the storytelling prompts, from small stories that are composed from parts."""
    from mgem_agent.prompts import render_prompt
    from mgem_agent.recipes.nano.world.story_dialogues import write_stories

    echo(write_stories(folder, num, render_prompt, seed))


@app.command("replay")
def _replay(
    folder: _Folder,
    num: _Number = 400,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The language model: nano, or a transformers folder or hub id.")
    ] = "nano",
    prompt_template: Annotated[str, typer.Option(help="Prompt template of the model.")] = "chatml",
    seed: _Seed = 0,
) -> None:
    """Generate the base model's own answers (self-distillation), which preserve its language while it learns to see."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mgem_agent.nano import find_language_model
    from mgem_agent.nano.gguf_conversion import quiet_transformers
    from mgem_agent.recipes.data.replay import write_replay
    from mgem_agent.recipes.nano.world.replay_questions import replay_question

    source = str(find_language_model()) if model == "nano" else model
    with quiet_transformers():
        loaded = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    with _bar("Answers", num) as report:
        path = write_replay(
            folder,
            num,
            replay_question,
            loaded,
            AutoTokenizer.from_pretrained(source),
            prompt_template=prompt_template,
            seed=seed,
            report=report,
        )
    echo(path)


@app.command("card")
def _card(folder: _Folder) -> None:
    """Write the data card of a folder, with counts of its records."""
    from mgem_agent.recipes.nano.world.data_card import write_data_card

    echo(write_data_card(folder))


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr, if stderr is a terminal."""
    from rich.progress import Progress

    console = open_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
