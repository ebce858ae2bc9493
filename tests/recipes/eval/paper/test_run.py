from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.paper.benchmarks import find_benchmarks, paper_benchmarks
from mgem_agent.recipes.eval.paper.environment import LmmsEval
from mgem_agent.recipes.eval.paper.run import (
    NO_TOKEN,
    PaperRun,
    has_judge,
    lmms_eval_command,
    measured_value,
    run_benchmarks,
    write_tasks,
)

SCRIPT = """#!/bin/sh
# Stands in for the interpreter of lmms-eval's environment: it writes down how it was called.
echo "$@" >> {log}
exit {code}
"""


@pytest.fixture
def lmms_eval(tmp_path: Path) -> LmmsEval:
    for each in paper_benchmarks():
        file = tmp_path / "tasks" / each.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return LmmsEval(tmp_path / "python", "0.7.3", tmp_path / "tasks")


@pytest.fixture
def run(tmp_path: Path) -> PaperRun:
    return PaperRun("YanweiLi/MGM-7B", tmp_path / "out")


def write_results(run: PaperRun, task: str, *, stamp: str = "1", limit: int | None = None, **values: float) -> None:
    folder = run.out / "results" / task / "model"
    folder.mkdir(parents=True, exist_ok=True)
    row = {f"{name},none": value for name, value in values.items()}
    (folder / f"{stamp}_results.json").write_text(json.dumps({"results": {task: row}, "config": {"limit": limit}}))


def test_tasks_include_those_of_lmms_eval(tmp_path: Path, lmms_eval: LmmsEval) -> None:
    write_tasks(paper_benchmarks(), lmms_eval, tmp_path / "ours")
    told = yaml.safe_load((tmp_path / "ours" / "mgem_mme.yaml").read_text())
    assert (
        told["include"] == str(tmp_path / "tasks/mme/mme.yaml") and told["generation_kwargs"]["max_new_tokens"] == 128
    )
    assert not (tmp_path / "ours" / "pope.yaml").exists()
    (tmp_path / "tasks/pope/pope.yaml").unlink()
    with pytest.raises(InputError, match=r"lmms-eval 0.7.3 has no task 'pope/pope.yaml'. Use the release 0.7.3"):
        write_tasks(paper_benchmarks(), lmms_eval, tmp_path / "ours")


def test_the_command(lmms_eval: LmmsEval, run: PaperRun) -> None:
    command = lmms_eval_command(dataclasses.replace(run, limit=4, device="cpu", dtype="float32"), "pope", lmms_eval)
    assert command[1:5] == ["-m", "lmms_eval", "--model", "mgem"]
    arguments = command[command.index("--model_args") + 1]
    assert arguments.startswith("pretrained=YanweiLi/MGM-7B,max_images=1,answers=") and "dtype=float32" in arguments
    assert command[-4:] == ["--device", "cpu", "--limit", "4"]
    many = lmms_eval_command(dataclasses.replace(run, num_processes=8), "pope", lmms_eval, force_simple=True)
    assert many[1:5] == ["-m", "accelerate.commands.launch", "--num_processes", "8"] and many[-1] == "--force_simple"
    with pytest.raises(InputError, match="has a comma or '='"):
        lmms_eval_command(dataclasses.replace(run, model="a,b"), "pope", lmms_eval)


def test_values_are_those_of_the_paper_s_scale(run: PaperRun) -> None:
    mme, pope = find_benchmarks(("MME", "POPE"))
    assert measured_value(run, mme) is None
    write_results(run, "mgem_mme", mme_perception_score=1523.3, mme_cognition_score=316.1)
    write_results(run, "pope", pope_f1_score=0.8591)
    assert (measured_value(run, mme), measured_value(run, pope)) == ("1523/316", "85.9")


def test_results_of_another_limit_do_not_count(run: PaperRun) -> None:
    (pope,) = find_benchmarks(("POPE",))
    write_results(run, "pope", stamp="2", limit=4, pope_f1_score=1.0)
    assert measured_value(run, pope) is None
    assert measured_value(dataclasses.replace(run, limit=4), pope) == "100.0"


@pytest.mark.parametrize("code", [0, 3])
def test_only_what_is_missing_runs(
    code: int, lmms_eval: LmmsEval, run: PaperRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgem_agent.recipes.eval.paper.run.has_judge", lambda: False)
    monkeypatch.setattr("mgem_agent.recipes.eval.paper.run.has_hub_token", lambda: code == 0)
    lmms_eval.python.write_text(SCRIPT.format(log=tmp_path / "calls", code=code))
    lmms_eval.python.chmod(0o755)
    write_results(run, "pope", pope_f1_score=0.8)
    lines: list[str] = []
    missing = run_benchmarks(run, find_benchmarks(("POPE", "DocVQA", "MMB")), lmms_eval, lines.append)
    assert (tmp_path / "calls").read_text().count("--tasks docvqa_val") == 1
    assert lines == ["POPE: has results", "DocVQA: running docvqa_val"]
    assert missing == [
        "MMB needs a judge: set OPENAI_API_KEY, or API_TYPE and MODEL_VERSION.",
        f"DocVQA failed: lmms-eval ended with {code}; its output says why." + (NO_TOKEN if code else ""),
    ]


def test_a_judge_is_found_in_the_environment() -> None:
    assert not has_judge({"OPENAI_API_KEY": ""}) and has_judge({"API_TYPE": "local"})
