"""`mgem train`: a run by name of its configuration, its picture, its models, and errors in a line."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.recipes.train import config_file, program, result, run_plot
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.program import Outcome


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["train", *words])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The configurations that the program was asked to train, in its place."""
    configs: list[TrainConfig] = []

    def train(config: TrainConfig, *, report: Any) -> Outcome:
        configs.append(config)
        report("step 1/2: loss 3.0000")
        return Outcome(1, 2, signal.SIGTERM) if config.run.max_steps == 2 else Outcome(1, 1)

    monkeypatch.setattr(program, "train", train)
    return configs


def test_a_configuration_is_trained(trained: list[TrainConfig]) -> None:
    finished = run("nano_align", "run.max_steps=1", "run.output=runs/mine")
    assert finished.exit_code == 0, finished.output
    assert finished.stdout == "runs/mine\n"
    assert finished.stderr == "step 1/2: loss 3.0000\n"
    assert (trained[0].stage, trained[0].run.max_steps) == ("align", 1)
    assert run("run", "nano_instruct").exit_code == 0
    assert trained[1].stage == "instruct"


def test_a_signal_is_told(trained: list[TrainConfig]) -> None:
    stopped = run("nano_align", "run.max_steps=2")
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert stopped.stderr.endswith("Stopped after step 1 of 2. Run the same command again to continue.\n")


def test_what_is_wrong_is_one_error() -> None:
    wrong = run("nano_align", "run.max_step=1")
    assert wrong.exit_code == 1
    assert wrong.stderr == (
        "Error: The configuration 'nano_align' is not valid:\n"
        "  run.max_step=1: there is no such key. The nearest is 'run.max_steps'.\n"
    )
    assert run("nano").exit_code == 1
    assert run("--nano").exit_code == 2


def test_configurations_are_listed_and_printed() -> None:
    assert run("configs").stdout.split() == list(config_file.shipped_configs())
    printed = run("configs", "mgm_7b_align").stdout
    assert TrainConfig.model_validate(yaml.safe_load(printed)) == config_file.load_config("mgm_7b_align")


def test_plot_and_export_are_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(run_plot, "plot_run", lambda *words: calls.append(("plot", *words)))
    monkeypatch.setattr(result, "export_model", lambda *words: calls.append(("whole", *words)))
    monkeypatch.setattr(result, "export_without_llm", lambda *words: calls.append(("small", *words)))
    assert run("plot", str(tmp_path)).stdout == f"{tmp_path / 'log.png'}\n"
    assert run("export", "a", "b").stdout == "b\n"
    assert run("export", "a", "c", "--small", "--dtype", "float32").stdout == "c\n"
    assert calls == [
        ("plot", tmp_path, tmp_path / "log.png"),
        ("whole", Path("a"), Path("b"), torch.bfloat16),
        ("small", Path("a"), Path("c"), torch.float32),
    ]


def test_help_tells_both_ways_to_launch() -> None:
    text = run("--help").stdout
    assert "mgem train CONFIG" in text
    assert "accelerate launch -m mgem_agent.recipes.train" in text
