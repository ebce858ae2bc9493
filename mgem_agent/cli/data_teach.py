"""`mgem data teach`: generation data from a large chat model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mgem_agent.cli.batches import Gpus, Ray, Workers, ray_options
from mgem_agent.cli.printing import echo, open_console

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from mgem_agent.recipes.data.teacher import TeacherReport
    from mgem_agent.scale.ray_cluster import RayOptions

__all__ = ["TeacherMaker", "teach_data"]


@dataclass(frozen=True)
class TeacherMaker:
    """Creates the teacher in the process that asks it.

    Attributes:
        name: Its name.
    """

    name: str

    def __call__(self) -> BaseChatModel:
        """Return the teacher. Its own tools are not bound, so it answers in text."""
        from mgem_agent.reasoners import make_reasoner

        return make_reasoner(self.name, tool_calling="native")


def teach_data(
    sources: Annotated[
        Path, typer.Argument(help="Descriptions, one per line; or records with conversations (JSON Lines).")
    ],
    out: Annotated[Path, typer.Argument(help="Output file (.jsonl).")],
    model: Annotated[str, typer.Option("--model", "-m", help="The teacher model, such as openai:gpt-4.1.")],
    kind: Annotated[
        Literal["recaption", "in_context"],
        typer.Option(
            help="A short request with a full caption for each description, or captions for each conversation."
        ),
    ] = "recaption",
    num: Annotated[int | None, typer.Option("--num", "-n", min=1, help="Use only the first N sources.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Maximum number of concurrent requests.")] = 4,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Maximum number of requests in a minute.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Maximum number of attempts of a request.")] = 4,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Maximum cost of all runs for OUT. It needs prices.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    input_price: Annotated[
        float | None, typer.Option(min=0, help="Price of a million input tokens. Default: the setting 'prices'.")
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(min=0, help="Price of a million output tokens. Default: the setting 'prices'.")
    ] = None,
    ray: Ray = None,
    workers: Workers = None,
    gpus: Gpus = None,
) -> None:
    """Generate drawing dialogues with a large chat model, by the paper's recipe.

    Sources with the same words are asked about once, and invalid or repeated answers are rejected. OUT.report.json has
    the figures. Run the command again to continue it; failed requests are then repeated. With --ray, each worker loads
    the teacher, and the rate and the cost are still counted together.

    Example: mgem data teach captions.txt taught.jsonl -m openai:gpt-4.1 --rate 500 --max-cost 80
    """
    from rich.progress import Progress

    from mgem_agent.recipes.data.teacher import read_sources, teach
    from mgem_agent.recipes.data.teacher_limits import TeacherLimits
    from mgem_agent.settings import load_settings
    from mgem_agent.tools.prices import Price, Prices

    where = ray_options(ray, workers, gpus)
    price = Prices(load_settings().prices).of(model) or Price()
    limits = TeacherLimits(
        max_concurrency=concurrency,
        requests_per_minute=rate,
        max_cost=max_cost,
        input_price=price.input_tokens if input_price is None else input_price,
        output_price=price.output_tokens if output_price is None else output_price,
        max_attempts=attempts,
    )
    found = read_sources(sources, kind)[:num]
    console = open_console(stderr=True)
    bars = Progress(console=console, transient=True, disable=not console.is_terminal)
    with _open_teacher(TeacherMaker(model), where, concurrency) as teacher, bars as progress:
        task = progress.add_task("Sources", total=len(found))
        result = teach(
            teacher,
            found,
            out,
            kind=kind,
            seed=seed,
            limits=limits,
            report=lambda done: progress.update(task, completed=done),
        )
    echo(out)
    _show(result)
    if result.num_failed or result.stopped_by:
        raise typer.Exit(1)


@contextmanager
def _open_teacher(make: TeacherMaker, ray: RayOptions | None, concurrency: int) -> Iterator[BaseChatModel]:
    teacher = make()  # an unknown name, or a missing key, is an error now, and not in the workers
    if ray is None:
        yield teacher
        return
    from mgem_agent.scale.ray_reasoner import ray_reasoner

    with ray_reasoner(make, ray, max_concurrency=concurrency) as shared:
        yield shared


def _show(result: TeacherReport) -> None:
    echo(
        f"{result.num_sources:,} sources in, {result.num_records:,} records out ({result.yield_share:.1%}); this run "
        f"kept {result.num_kept:,}, {result.num_done_before:,} were done before"
    )
    if result.num_repeated:
        echo(f"left out {result.num_repeated:,}: words of an earlier source")
    for reason, number in result.rejected.most_common():
        echo(f"rejected {number:,}: {reason}")
    if result.num_captions:
        words = result.num_caption_words / result.num_captions
        echo(f"{result.num_captions:,} captions of {words:.1f} words on average")
    cost = f", cost {result.cost:,.2f}" if result.cost else ""
    echo(f"tokens of all runs: {result.num_input_tokens:,} read, {result.num_output_tokens:,} written{cost}")
    if result.num_failed:
        echo(f"{result.num_failed:,} requests failed; run the command again. The last: {result.last_failure}", err=True)
    if result.stopped_by:
        echo(f"Not all sources were asked about: {result.stopped_by}.", err=True)
