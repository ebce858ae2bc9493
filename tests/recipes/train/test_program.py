"""A run: it learns, and interrupted is uninterrupted, to the bit."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from mgem_agent.errors import InputError, MgemError
from mgem_agent.recipes.train import program
from mgem_agent.recipes.train.checkpoints import newest_checkpoint
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.held_out import HeldOut
from mgem_agent.recipes.train.program import train
from mgem_agent.recipes.train.result import export_model
from mgem_agent.recipes.train.run_log import read_log
from mgem_agent.recipes.train.target_loss import TargetLoss

MakeRun = Callable[..., TrainConfig]


def losses(run: str | Path) -> list[float]:
    return [record["loss"] for record in read_log(Path(run)) if "loss" in record]


def assert_same(one: str | Path, other: str | Path) -> None:
    """Same weights, same log, to the bit."""
    weights, others = (load_file(Path(run) / "trained.safetensors") for run in (one, other))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name
    assert losses(one) == losses(other)


class Interruption(Exception):
    """Stands for whatever ends a program in the middle."""


def interrupt_at(step: int) -> Callable[[str], None]:
    def report(message: str) -> None:
        if message.startswith(f"step {step}/"):
            raise Interruption

    return report


@pytest.mark.parametrize(("llm", "gain"), [("frozen", 0.02), ("full", 2.0), ("lora", 0.3)])
def test_it_learns(make_run: MakeRun, llm: str, gain: float) -> None:
    stage = "align" if llm == "frozen" else "instruct"
    config = make_run(stage=stage, train__llm=llm, run__max_steps=12, run__save="trained")
    outcome = train(config)
    assert (outcome.step, outcome.num_steps, outcome.stopped_by) == (12, 12, None)
    found = losses(config.run.output)
    assert len(found) == 12
    assert sum(found[-3:]) < sum(found[:3]) - gain


def test_interrupted_is_uninterrupted(make_run: MakeRun, tmp_path: Path) -> None:
    whole = make_run(run__output=str(tmp_path / "whole"))
    train(whole)
    broken = make_run(run__output=str(tmp_path / "broken"))
    for step in (3, 6):  # after the checkpoints of steps 2 and 4: steps 3, 5 and 6 are made twice
        with pytest.raises(Interruption):
            train(broken, report=interrupt_at(step))
    assert train(broken).step == 6
    assert_same(whole.run.output, broken.run.output)


def test_a_signal_makes_a_checkpoint_and_ends_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    whole = make_run(run__output=str(tmp_path / "whole"))
    train(whole)
    config = make_run(run__output=str(tmp_path / "stopped"))

    def press(message: str) -> None:
        if message.startswith("step 3/"):
            signal.raise_signal(signal.SIGINT)

    outcome = train(config, report=press)
    assert (outcome.step, outcome.stopped_by) == (3, signal.SIGINT)
    assert [place.name for place in (Path(config.run.output) / "checkpoints").iterdir()] == ["step-00000003"]
    assert train(config).step == 6
    assert_same(whole.run.output, config.run.output)


@pytest.mark.slow
def test_killed_is_uninterrupted(settings: dict[str, Any], make_run: MakeRun, tmp_path: Path) -> None:
    whole = make_run(run__output=str(tmp_path / "whole"), run__max_steps=30)
    train(whole)
    settings["run"] |= {"output": str(tmp_path / "killed"), "max_steps": 30}
    file = tmp_path / "killed.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "mgem_agent.recipes.train", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 7/"):
                process.kill()
                break
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert_same(whole.run.output, settings["run"]["output"])


@pytest.mark.slow
@pytest.mark.parametrize("llm", ["full", "lora"])
def test_two_processes_learn_as_one(settings: dict[str, Any], make_run: MakeRun, tmp_path: Path, llm: str) -> None:
    settings["train"] = {"llm": llm, "lora": {"rank": 2}}
    settings["run"] |= {"micro_batch": 1, "save": "trained"}
    settings["evaluation"] = {"sources": settings["data"]["sources"], "every": 3}
    one = make_run(run__output=str(tmp_path / "one"))
    train(one)
    settings["run"]["output"] = str(tmp_path / "two")
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    # accelerate 1.15 starts a single process under --cpu, whatever --num_processes says.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    finished = subprocess.run(
        [sys.executable, *launch, "-m", "mgem_agent.recipes.train", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert "2 process(es)" in finished.stderr
    assert losses(settings["run"]["output"]) == pytest.approx(losses(one.run.output), rel=1e-4)
    held_out = [
        [record["evaluation_loss"] for record in read_log(Path(run)) if "evaluation_loss" in record]
        for run in (one.run.output, settings["run"]["output"])
    ]
    assert held_out[1] == pytest.approx(held_out[0], rel=1e-4)


def test_accumulation_weighs_every_target_the_same(make_run: MakeRun, tmp_path: Path) -> None:
    runs = []
    for micro_batch in (1, 4):
        config = make_run(
            run__output=str(tmp_path / str(micro_batch)), run__micro_batch=micro_batch, train__lora={"rank": 2}
        )
        train(config)
        runs.append(losses(config.run.output))
    assert runs[0] == pytest.approx(runs[1], rel=1e-4)


def test_reading_ahead_changes_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    for name, num_workers in (("none", 0), ("one", 1)):
        train(make_run(run__output=str(tmp_path / name), run__max_steps=3, data__num_workers=num_workers))
    assert_same(tmp_path / "none", tmp_path / "one")


def test_gradient_checkpointing_changes_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    for name, is_on in (("off", False), ("on", True)):
        train(make_run(run__output=str(tmp_path / name), run__max_steps=3, run__gradient_checkpointing=is_on))
    assert losses(tmp_path / "off") == pytest.approx(losses(tmp_path / "on"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch hides it from users
def test_compiling_changes_nothing(make_run: MakeRun, settings: dict[str, Any], tmp_path: Path) -> None:
    settings["train"]["lora"]["dropout"] = 0.0  # compiled code has random numbers of its own
    for name, is_on in (("off", False), ("on", True)):
        train(make_run(run__output=str(tmp_path / name), run__max_steps=3, run__compile=is_on))
    assert losses(tmp_path / "off") == pytest.approx(losses(tmp_path / "on"), rel=1e-4)
    weights, others = (load_file(tmp_path / name / "trained.safetensors") for name in ("off", "on"))
    torch.testing.assert_close(weights, others, rtol=1e-3, atol=1e-4)  # under the same names


def test_the_result_with_the_lowest_held_out_loss_is_kept(
    make_run: MakeRun, data_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = iter((2.0, 1.0, 3.0))
    monkeypatch.setattr(HeldOut, "loss", lambda *args: next(found))
    evaluation = {"sources": [{"path": str(data_file)}], "every": 2, "max_records": 5, "keep_best": True}
    config, said = make_run(evaluation=evaluation, run__max_steps=6), []
    train(config, report=said.append)
    assert [line for line in said if "held-out" in line] == [
        "step 2: held-out loss 2.0000, the best so far",
        "step 4: held-out loss 1.0000, the best so far",
        "step 6: held-out loss 3.0000",
    ]
    run = Path(config.run.output)
    best, last = load_file(run / "best" / "trained.safetensors"), load_file(run / "trained.safetensors")
    assert best.keys() == last.keys() and any(not torch.equal(best[name], last[name]) for name in best)
    export_model(run / "best", tmp_path / "exported")
    assert (tmp_path / "exported" / "model.safetensors").is_file()


def test_values_go_to_trackers(make_run: MakeRun) -> None:
    pytest.importorskip("tensorboardX")
    config = make_run(run__max_steps=2, run__log_every=1, run__trackers=("tensorboard",))
    train(config)
    (events, *_) = Path(config.run.output, "mgem").glob("events.*")
    assert b"gradient_norm" in events.read_bytes() and b"mfu" in events.read_bytes()
    with pytest.raises(InputError, match=r"The tracker 'paper' of run\.trackers is not one of accelerate's"):
        train(make_run(run__trackers=("paper",)))


class Poisoned(TargetLoss):
    """A loss that is not a number in some steps."""

    bad: ClassVar[set[int]] = set()
    num_calls = 0

    def forward(self, inputs: dict[str, torch.Tensor], num_targets: torch.Tensor) -> torch.Tensor:
        loss = super().forward(inputs, num_targets)
        self.num_calls += 1
        return loss * math.nan if self.num_calls in self.bad else loss


def test_a_step_that_is_not_finite_is_skipped(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "TargetLoss", Poisoned)
    options: dict[str, Any] = {"run__micro_batch": 4, "run__global_batch": 4, "run__log_every": 1}
    monkeypatch.setattr(Poisoned, "bad", {2, 3})
    config = make_run(run__max_steps=4, **options)
    train(config)
    assert [math.isfinite(loss) for loss in losses(config.run.output)] == [True, False, False, True]
    weights = load_file(Path(config.run.output) / "trained.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


def test_a_run_stops_at_three_steps_in_a_row_that_are_not_finite(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "TargetLoss", Poisoned)
    monkeypatch.setattr(Poisoned, "bad", {3, 4, 5})
    options: dict[str, Any] = {"run__micro_batch": 4, "run__global_batch": 4, "run__checkpoint_every": 1}
    config = make_run(run__max_steps=9, **options)
    with pytest.raises(
        MgemError, match=r"The gradient of step 5 is nan, as in the 2 steps before it\. The run stopped"
    ):
        train(config)
    newest = newest_checkpoint(Path(config.run.output))
    assert newest is not None and newest.name == "step-00000004"


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_of_a_quantized_model_learns_and_is_merged(make_run: MakeRun, tmp_path: Path, bits: int) -> None:
    config = make_run(run__max_steps=3, model__quantize=bits)
    train(config)
    export_model(Path(config.run.output), tmp_path / "exported")
    assert (tmp_path / "exported" / "model.safetensors").is_file()
    with pytest.raises(ValidationError, match=r"trains all weights of the language model; set train\.llm=lora"):
        make_run(model__quantize=bits, train__llm="full")


def test_the_held_out_loss_is_logged(make_run: MakeRun, data_file: Path) -> None:
    evaluation = {"sources": [{"path": str(data_file)}], "every": 4, "max_records": 5}
    config = make_run(evaluation=evaluation)
    said: list[str] = []
    train(config, report=said.append)
    evaluated = [record for record in read_log(Path(config.run.output)) if "evaluation_loss" in record]
    assert [record["step"] for record in evaluated] == [4, 6]
    assert f"step 6: held-out loss {evaluated[-1]['evaluation_loss']:.4f}" in said


def test_broken_records_are_counted(make_run: MakeRun, data_file: Path, tmp_path: Path) -> None:
    lines = data_file.read_text(encoding="utf-8").splitlines()
    missing = json.loads(lines[0]) | {"image": "gone.png"}
    (data_file.parent / "bad.png").write_bytes(b"no picture")
    unreadable = json.loads(lines[0]) | {"image": "bad.png"}
    file = data_file.parent / "broken.jsonl"
    file.write_text("\n".join([*lines, json.dumps(missing), json.dumps(unreadable), "{"]), encoding="utf-8")
    sources = [{"path": str(file)}]
    config = make_run(data__sources=sources, data__on_broken="skip", run__max_steps=8)
    said: list[str] = []
    train(config, report=said.append)
    assert f"Replaced by other records of the same source: {file}: 1 missing picture, 1 not JSON" in said
    assert said[-1].startswith("3 record(s) not used: ")
    for reason in ("1 missing picture", "1 unreadable picture", "1 not JSON"):
        assert reason in said[-1]
    strict = make_run(data__sources=sources, run__output=str(tmp_path / "strict"), run__max_steps=8)
    with pytest.raises(InputError, match=r"^Record \d+ of '.*broken.jsonl' cannot be used .*\n.*data.on_broken=skip"):
        train(strict)


def test_another_run_in_the_folder_is_refused(make_run: MakeRun) -> None:
    config = make_run(run__max_steps=1)
    train(config)
    expected = (
        rf"^The folder '{config.run.output}' holds another run, which these settings would change:\n"
        r"  optimizer.learning_rate: 0.01 before, 0.02 now\n"
        r"  run.max_steps: 1 before, 2 now\nGive another run.output, or the earlier settings to resume it\.$"
    )
    with pytest.raises(InputError, match=expected):
        train(make_run(run__max_steps=2, optimizer__learning_rate=0.02))


def test_a_batch_that_cannot_be_shared_out_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match=r"run.global_batch=4 is no multiple of run.micro_batch=2 times 3 processes"):
        make_run().accumulation(3)
