"""Run the paper's benchmarks, one process of lmms-eval for each, and read its results.

A folder has `tasks/` (lmms-eval's tasks with the authors' settings), `answers/` (each answer as it came) and `results/`
(as lmms-eval writes them). A benchmark with results is not run again; one that was interrupted takes up its answers.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.lmms.plugin import MODEL_ID
from mgem_agent.recipes.eval.paper.benchmarks import PaperBenchmark
from mgem_agent.recipes.eval.paper.environment import LMMS_EVAL, LmmsEval

__all__ = [
    "NO_TOKEN",
    "PaperRun",
    "has_hub_token",
    "has_judge",
    "lmms_eval_command",
    "measured_value",
    "run_benchmarks",
    "write_tasks",
]

NO_TOKEN = (
    " There is no token of the Hugging Face hub, and most tasks of lmms-eval do not download their data without one: "
    "set HF_TOKEN, or run hf auth login."
)
_JUDGE_KEYS = ("OPENAI_API_KEY", "AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "API_TYPE")


@dataclass(frozen=True)
class PaperRun:
    """Settings of a run.

    Args:
        model: `nano`, a folder or a hub id.
        out: Folder of the results of this model.
        batch_size: Questions in a batch.
        limit: Questions of each benchmark; None for all.
        device: The device; None for all GPUs, or the CPU.
        dtype: Data type of the weights; None for bfloat16 on GPUs.
        num_processes: Processes, each with a GPU of its own.
        include: Folder of more tasks, or None.
    """

    model: str
    out: Path
    batch_size: int = 8
    limit: int | None = None
    device: str | None = None
    dtype: str | None = None
    num_processes: int = 1
    include: Path | None = None


def has_judge(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether lmms-eval can ask a judge: a key or the kind of server is in the environment."""
    return any(environment.get(name) for name in _JUDGE_KEYS)


def has_hub_token() -> bool:
    """Return whether there is a token of the Hugging Face hub, which most tasks of lmms-eval require."""
    from huggingface_hub import get_token

    return get_token() is not None


def write_tasks(benchmarks: Sequence[PaperBenchmark], lmms_eval: LmmsEval, folder: Path) -> None:
    """Write the tasks that differ from lmms-eval's.

    Args:
        benchmarks: The benchmarks.
        lmms_eval: lmms-eval, whose tasks they include.
        folder: Where to write them.

    Raises:
        InputError: If this release of lmms-eval lacks a task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for benchmark in benchmarks:
        own = lmms_eval.tasks / benchmark.file
        if not own.is_file():
            raise InputError(
                f"lmms-eval {lmms_eval.version} has no task {benchmark.file!r}. Use the release "
                f"{LMMS_EVAL}: mgem eval paper --create."
            )
        if benchmark.changes:
            fields = {"include": str(own), "task": benchmark.our_task, "tag": [], **benchmark.changes}
            (folder / f"{benchmark.our_task}.yaml").write_text(
                yaml.safe_dump(fields, sort_keys=False), encoding="utf-8"
            )


def lmms_eval_command(run: PaperRun, task: str, lmms_eval: LmmsEval, *, force_simple: bool = False) -> list[str]:
    """Return the command that runs a task.

    Args:
        run: The settings.
        task: lmms-eval's name of the task.
        lmms_eval: The environment.
        force_simple: Whether the task scores continuations, for which lmms-eval has no chat form.

    Raises:
        InputError: If a path has a character that lmms-eval's arguments do not allow.
    """
    answers = run.out / "answers" / f"{task}.jsonl"
    told = {"pretrained": run.model, "max_images": 1, "answers": answers, "pictures": run.out / "pictures" / task}
    if run.dtype is not None:
        told["dtype"] = run.dtype
    if bad := next((str(value) for value in told.values() if set(str(value)) & set(",=")), None):
        raise InputError(f"{bad!r} has a comma or '=', which lmms-eval's --model_args cannot hold. Use another path.")
    launch = ["-m", "accelerate.commands.launch", "--num_processes", str(run.num_processes)]
    return [
        str(lmms_eval.python),
        *(launch if run.num_processes > 1 else ()),
        *("-m", "lmms_eval", "--model", MODEL_ID),
        *("--model_args", ",".join(f"{name}={value}" for name, value in told.items())),
        *("--tasks", task, "--include_path", str(run.include or run.out / "tasks")),
        *("--batch_size", str(run.batch_size), "--output_path", str(_results(run, task)), "--log_samples"),
        *(("--device", run.device) if run.device else ()),
        *(("--limit", str(run.limit)) if run.limit else ()),
        *(("--force_simple",) if force_simple else ()),
    ]


def run_benchmarks(
    run: PaperRun,
    benchmarks: Sequence[PaperBenchmark],
    lmms_eval: LmmsEval,
    report: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Run the benchmarks that have no results yet.

    Args:
        run: The settings.
        benchmarks: The benchmarks.
        lmms_eval: The environment.
        report: Called with a line before each benchmark.

    Returns:
        A line for each benchmark without a result, with the reason.
    """
    write_tasks(benchmarks, lmms_eval, run.out / "tasks")
    missing = []
    for benchmark in benchmarks:
        if measured_value(run, benchmark) is not None:
            report(f"{benchmark.name}: has results")
            continue
        if benchmark.judge and not has_judge():
            missing.append(f"{benchmark.name} needs a judge: set OPENAI_API_KEY, or API_TYPE and MODEL_VERSION.")
            continue
        report(f"{benchmark.name}: running {benchmark.our_task}")
        done = subprocess.run(lmms_eval_command(run, benchmark.our_task, lmms_eval), check=False)
        if done.returncode or measured_value(run, benchmark) is None:
            missing.append(f"{benchmark.name} failed: lmms-eval ended with {done.returncode}; its output says why.")
            missing[-1] += "" if has_hub_token() else NO_TOKEN
    return missing


def measured_value(run: PaperRun, benchmark: PaperBenchmark) -> str | None:
    """Return the value of a benchmark as the paper writes it; None without results.

    Args:
        run: The settings; results of another `limit` do not count.
        benchmark: The benchmark.
    """
    for file in sorted(_results(run, benchmark.our_task).rglob("*_results.json"), reverse=True):
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        limit = told.get("config", {}).get("limit")
        if (None if limit is None else int(limit)) != run.limit:
            continue
        row = told["results"].get(benchmark.our_task, {})
        values = [row.get(f"{metric},none") for metric in benchmark.metrics]
        if all(isinstance(value, int | float) for value in values):
            return "/".join(f"{value * benchmark.scale:.{benchmark.digits}f}" for value in values)
    return None


def _results(run: PaperRun, task: str) -> Path:
    return run.out / "results" / task
