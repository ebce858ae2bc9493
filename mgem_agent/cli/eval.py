"""`mgem eval`: evaluate a model's understanding and drawing, and write its model card."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mgem_agent.cli.eval_agent import eval_agent
from mgem_agent.cli.eval_drawings import eval_drawings
from mgem_agent.cli.eval_paper import eval_paper
from mgem_agent.cli.eval_progress import progress_bars
from mgem_agent.cli.eval_story import eval_story
from mgem_agent.cli.printing import echo, echo_json, open_console

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from mgem_agent.recipes.nano.eval.premise_stories import ToldStory
    from mgem_agent.tools.image_generator import ImageGenerator

__all__ = ["app"]

app = typer.Typer(
    help="Evaluate models: seeing, drawing and telling, by the measures of the field.",
    no_args_is_help=True,
)
app.command("paper")(eval_paper)
app.command("agent")(eval_agent)
app.command("story")(eval_story)
app.command("drawings")(eval_drawings)


@app.command("nano")
def _nano(
    understanding: Annotated[
        bool, typer.Option("--understanding", help="Evaluate answers to questions about pictures.")
    ] = False,
    drawing: Annotated[
        bool, typer.Option("--drawing", help="Evaluate when the model draws, and its captions.")
    ] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="Evaluate the generator's pictures.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Evaluate all three (the default).")] = False,
    num: Annotated[
        int,
        typer.Option("--num", "-n", min=1, help="Number of questions of each kind, turns of each kind, and pictures."),
    ] = 100,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="The model: nano, or a Mini-Gemini folder or hub id.")
    ] = "nano",
    without_hr: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A baseline trained without high resolution, for comparison."),
    ] = None,
    generator: Annotated[
        str, typer.Option("--generator", "-g", metavar="NAME", help="The image generator. List them: mgem generators")
    ] = "nano",
    clip: Annotated[
        Path | None,
        typer.Option(help="Folder clip/ from the encoders' recipe; its model names the things in pictures."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for answers, pictures, contact sheet and report.")
    ] = Path("eval-nano"),
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the scenes, dialogues and pictures.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Batch size in questions.")] = 16,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU threads. Default: torch's.")] = None,
    emoji: Annotated[
        Path | None, typer.Option(help="Folder with the emoji set, packed or unpacked. Default: download it.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not use the network.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of tables.")] = False,
) -> None:
    """Evaluate nano, or any Mini-Gemini model and generator, on held-out scenes and dialogues.

    Answers and pictures are saved in the folder: run the command again to continue, or with a larger --num to add more.
    """
    from mgem_agent.cli.factories import go_offline
    from mgem_agent.settings import load_settings

    go_offline(load_settings(offline=True) if offline else load_settings())
    from mgem_agent.recipes.bench.measure import use_threads
    from mgem_agent.recipes.nano.eval.evaluation import EVAL_PARTS, EvalPart, EvalPlan, evaluate
    from mgem_agent.recipes.nano.world.emoji import EmojiAssets

    chosen = dict(zip(EVAL_PARTS, (understanding, drawing, pictures), strict=True))
    parts: tuple[EvalPart, ...] = tuple(part for part in EVAL_PARTS if chosen[part])
    plan = EvalPlan(
        out=out,
        parts=EVAL_PARTS if everything or not parts else parts,
        model=model,
        without_hr=without_hr,
        generator=generator,
        clip=clip,
        num=num,
        seed=seed,
        batch_size=batch,
    )
    with progress_bars() as report, use_threads(threads):
        made = evaluate(plan, lambda: EmojiAssets.open(offline=offline, source=emoji), report)
    if as_json:
        echo_json(made.model_dump(mode="json"))
    else:
        open_console().print(made.render())


@app.command("stories")
def _stories(
    num: Annotated[
        int, typer.Option("--num", "-n", min=1, max=30, help="Number of premises, of thirty held-out ones.")
    ] = 30,
    scenes: Annotated[int, typer.Option(min=1, max=12, help="Pages of a story.")] = 4,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="The reasoner that writes, as for mgem story.")
    ] = "nano",
    generator: Annotated[
        str, typer.Option("--generator", "-g", metavar="NAME", help="The image generator. List them: mgem generators")
    ] = "nano",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the stories. With it, the same command continues a stopped run."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead of a table.")] = False,
) -> None:
    """Tell stories from premises alone, and count what they keep of the hero, the place and the things.

    Each premise is told twice: with the grammars that keep a small model to its premise, and without. With nano, all
    thirty take about half an hour on a free core.
    """
    from mgem_agent.reasoners import make_reasoner
    from mgem_agent.recipes.nano.eval.premise_stories import PremiseKeeping, held_out_premises, premise_table
    from mgem_agent.tools.registry import make_generator

    tools = make_reasoner(model), make_generator(generator)
    found: dict[str, PremiseKeeping] = {}
    with progress_bars() as report, tempfile.TemporaryDirectory() as passing:
        for name, is_kept in (("with grammars", True), ("without", False)):
            told = []
            for number, premise in enumerate(held_out_premises()[:num]):
                report(f"stories {name}", number, num)
                folder = (out or Path(passing)) / name.replace(" ", "-") / f"{scenes}-scenes" / f"{number + 1:02}"
                told.append(_told(premise, *tools, folder=folder, num_scenes=scenes, keep_premise=is_kept))
            report(f"stories {name}", num, num)
            found[name] = PremiseKeeping.of(told)
    if as_json:
        echo_json({name: each.model_dump(mode="json") for name, each in found.items()})
    else:
        open_console().print(premise_table(found))


def _told(
    text: str,
    reasoner: BaseChatModel,
    generator: ImageGenerator,
    *,
    folder: Path,
    num_scenes: int,
    keep_premise: bool,
) -> ToldStory:
    """Tell a story from a premise, or continue it, if it was begun in the folder."""
    from mgem_agent.artifacts.store import ArtifactStore
    from mgem_agent.errors import InputError
    from mgem_agent.recipes.nano.eval.premise_stories import ToldStory
    from mgem_agent.workflows.premise import read_premise
    from mgem_agent.workflows.story import STORY_FILE
    from mgem_agent.workflows.story_recipe import StoryRecipe
    from mgem_agent.workflows.storytelling import Storyteller

    premise = read_premise(text)
    if premise is None:
        raise InputError(f"No hero can be read from the premise {text!r}. Begin with the hero: 'A fox finds a key.'")
    store = ArtifactStore(folder / "pictures")
    teller = Storyteller(reasoner, generator, store, folder=folder, keep_premise=keep_premise)
    is_begun = (folder / STORY_FILE).exists()
    story = teller.resume() if is_begun else teller.run(StoryRecipe.from_premise(text, scenes=num_scenes))
    place = premise.place.split()[-1] if premise.place else ""
    pages = tuple((scene.text, scene.caption) for scene in story.scenes)
    return ToldStory(premise.hero, premise.things, place, pages)


@app.command("card")
def _card(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="report.json written by mgem eval nano, or its folder.")
    ],
    model: Annotated[
        Literal["vlm", "diffusion"],
        typer.Option("--model", "-m", help="The vision-language model, or the diffusion model."),
    ] = "vlm",
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Folder of a training run that led to the model; repeatable, in order."),
    ] = None,
    earlier: Annotated[
        Path | None, typer.Option(metavar="CARD", help="Model card of the checkpoint that training started from.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Training hardware. Default: the hardware in the report.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output file. Default: print the card.")] = None,
) -> None:
    """Write the model card of a built-in model in Markdown, with the figures from a report."""
    from mgem_agent.recipes.nano.eval.evaluation import REPORT_FILE
    from mgem_agent.recipes.nano.eval.model_card import model_card
    from mgem_agent.recipes.nano.eval.report import EvalReport
    from mgem_agent.recipes.nano.eval.training_hours import earlier_runs, read_training_run

    found = EvalReport.read(report / REPORT_FILE if report.is_dir() else report)
    runs = [*(earlier_runs(earlier) if earlier else ()), *(read_training_run(folder) for folder in run or ())]
    card = model_card(found, model, runs=runs, hardware=hardware)
    if out is None:
        echo(card, nl=False)
    else:
        out.write_text(card, encoding="utf-8")
        echo(out)
