"""`mgem eval`: measure what a model understands and draws, and write its card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from mgem_agent.cli.printing import echo, echo_json, open_console

__all__ = ["app"]

app = typer.Typer(
    help="Measure what a model understands and draws, on scenes and dialogues that it was not trained on.",
    no_args_is_help=True,
)


@app.command("nano")
def _nano(
    understanding: Annotated[
        bool, typer.Option("--understanding", help="Questions about pictures, by kind of question.")
    ] = False,
    drawing: Annotated[bool, typer.Option("--drawing", help="When the model draws, and with what captions.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="What the generator draws for captions.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All three; so it is if none is named.")] = False,
    num: Annotated[
        int, typer.Option("--num", "-n", min=1, help="Questions of each kind; turns of each kind; pictures.")
    ] = 100,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="nano, a folder or hub id of Mini-Gemini.")
    ] = "nano",
    without_hr: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The same trained alike without high resolution, to stand beside it."),
    ] = None,
    generator: Annotated[
        str, typer.Option("--generator", "-g", metavar="NAME", help="What draws. See: mgem generators")
    ] = "nano",
    clip: Annotated[
        Path | None, typer.Option(help="Folder clip/ of the encoders' recipe, which names things in pictures.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of answers, pictures, contact sheet and report.")
    ] = Path("eval-nano"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes, dialogues and pictures.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Questions at once.")] = 16,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads on the CPU; as many as torch likes if not given.")
    ] = None,
    emoji: Annotated[
        Path | None, typer.Option(help="Folder that has the emoji set, in archives or unpacked; else it is fetched.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of tables.")] = False,
) -> None:
    """Nano, or any Mini-Gemini model and any generator, on held-out scenes and dialogues.

    What is answered and drawn is kept in the folder: an interrupted run goes on, and a larger --num adds to it.
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
    with _bars() as report, use_threads(threads):
        made = evaluate(plan, lambda: EmojiAssets.open(offline=offline, source=emoji), report)
    if as_json:
        echo_json(made.model_dump(mode="json"))
    else:
        open_console().print(made.render())


@app.command("card")
def _card(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="report.json of mgem eval nano, or its folder.")],
    model: Annotated[
        Literal["vlm", "diffusion"], typer.Option("--model", "-m", help="The model that sees, or the one that draws.")
    ] = "vlm",
    run: Annotated[
        list[Path] | None, typer.Option("--run", help="Folder of a training that it comes from; several, in order.")
    ] = None,
    earlier: Annotated[
        Path | None, typer.Option(metavar="CARD", help="Card of the model that the trainings went on from.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="What it was trained on; if not given, what it was measured on.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; else it is printed.")] = None,
) -> None:
    """The card of an embedded model, in Markdown, with the measured figures of a report."""
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


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr for each thing that takes long, where someone is at a terminal."""
    from rich.progress import Progress, TaskID

    console = open_console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, disable=not console.is_terminal) as progress:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield report
