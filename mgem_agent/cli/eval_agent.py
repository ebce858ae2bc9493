"""`mgem eval agent`: whether looking at pictures pays, at an equal number of drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgem_agent.cli.eval_progress import progress_bars
from mgem_agent.cli.judges import open_judge
from mgem_agent.cli.printing import echo_json, open_console

__all__ = ["eval_agent"]


def eval_agent(
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            metavar="NAME",
            help="The judge of the figure: a chat model that takes pictures, vqascore:MODEL, or scene:MODEL.",
        ),
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="geneval2_data.jsonl, or its form. Default: prompts of nano's world."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", metavar="NAME", help="The reasoner: it writes captions and judges in the loop."),
    ] = "nano",
    generator: Annotated[
        str, typer.Option("--generator", "-g", metavar="NAME", help="The image generator. List them: mgem generators")
    ] = "nano",
    drawings: Annotated[int, typer.Option(min=2, help="Maximum number of drawings of a prompt.")] = 4,
    condition: Annotated[
        list[str] | None,
        typer.Option("--condition", help="'no look', 'retry', 'revise' or 'best of n'; repeatable. Default: all."),
    ] = None,
    num: Annotated[int | None, typer.Option("--num", "-n", min=1, help="Number of prompts. Default: all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first drawing.")] = 0,
    same_judge: Annotated[
        bool, typer.Option("--same-judge", help="Allow a judge that is also the judge in the loop.")
    ] = False,
    judge_python: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For vqascore:MODEL, Python of an environment with t2v_metrics."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of pictures, turns and scores.")] = Path(
        "eval-agent"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of tables.")] = False,
) -> None:
    """Draw prompts with and without looking, and score the pictures by GenEval 2's Soft-TIFA.

    The conditions are no look, retry, revise and best of n, each with the same maximum number of drawings. Turns and
    scores are stored: run the command again to continue, with a larger --num, or with another judge.
    """
    import torch

    from mgem_agent.artifacts.store import ArtifactStore
    from mgem_agent.reasoners import make_reasoner
    from mgem_agent.recipes.bench.measure import describe_machine
    from mgem_agent.recipes.eval.agent.figure_judge import check_other_judge
    from mgem_agent.recipes.eval.agent.prompts import read_prompts
    from mgem_agent.recipes.eval.agent.report import AgentReport
    from mgem_agent.recipes.eval.agent.run import conditions, make_agent, run_turns, score_turns
    from mgem_agent.recipes.nano.eval.evaluation import answer_settings
    from mgem_agent.recipes.nano.eval.world_prompts import WORLD_PROMPTS
    from mgem_agent.tools.registry import make_generator
    from mgem_agent.user_files import user_path

    check_other_judge(judge, model, is_allowed=same_judge)
    chosen = conditions(drawings, tuple(condition or ()))
    file = WORLD_PROMPTS if prompts is None else user_path(prompts)
    asked = read_prompts(file)[:num]
    figure_judge = open_judge(judge, judge_python and user_path(judge_python))  # before hours of drawing
    reasoner, tool, folder = make_reasoner(model), make_generator(generator), user_path(out)
    store = ArtifactStore(folder / "pictures")
    agents = {each.name: make_agent(reasoner, tool, store, each, seed) for each in chosen}
    settings = {
        "prompts": file.name, "reasoner": answer_settings(model), "generator": answer_settings(generator),
        "drawings": drawings, "seed": seed,
    }  # fmt: skip
    with progress_bars() as report:
        run_turns(asked, agents, folder, settings, report)
        scored = score_turns(
            asked, list(agents), figure_judge, folder, judge_name=judge, settings=settings, report=report
        )
    made = AgentReport.of(
        asked, scored, file=file, reasoner=model, generator=generator, judge=judge, scoring=figure_judge.kind,
        machine=describe_machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
    )  # fmt: skip
    (folder / "report.json").write_text(made.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if as_json:
        echo_json(made.model_dump(mode="json"))
    else:
        open_console().print(made.render())
