"""The training loop of nano's recipes: an interrupted run ends with the same weights as an uninterrupted one."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mgem_agent.errors import CheckpointError
from mgem_agent.recipes.nano.pretraining import PretrainingConfig, PretrainingRun
from mgem_agent.recipes.train.checkpoints import newest_checkpoint
from mgem_agent.recipes.train.run_plot import plot_run


def config(**changes) -> PretrainingConfig:
    return PretrainingConfig(
        **{"num_steps": 12, "batch_size": 4, "learning_rate": 0.05, "warmup_steps": 2, "log_every": 4, "ema_decay": 0.5}
        | changes
    )


def make_run(folder: Path, **changes) -> PretrainingRun:
    torch.manual_seed(0)
    return PretrainingRun(folder, nn.Linear(3, 1), config(**changes))


def train(run: PretrainingRun, until: int | None = None) -> PretrainingRun:
    for step in run.steps():
        inputs = torch.randn(4, 3, generator=run.generator(step))
        run.update((run.model(inputs) - inputs.sum(1, keepdim=True)).square().mean())
        if run.step == until:
            os.kill(os.getpid(), signal.SIGTERM)
    return run


def weights(run: PretrainingRun) -> list[torch.Tensor]:
    with run.averaged_weights():
        averaged = [value.clone() for value in run.model.parameters()]
    return [*run.model.state_dict().values(), *averaged]


def test_what_is_cut_off_ends_like_what_is_not(tmp_path):
    whole = train(make_run(tmp_path / "whole"))
    cut = train(make_run(tmp_path / "cut"), until=5)
    assert cut.step == 5
    again = train(make_run(tmp_path / "cut"))
    assert again.step == whole.step == 12
    for one, other in zip(weights(whole), weights(again), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_averages_can_begin_anew_after_weights_were_set_by_hand(tmp_path):
    run = train(make_run(tmp_path, num_steps=3))
    for parameter in run.model.parameters():
        parameter.data.fill_(100.0)
    assert all(averaged.max() < 10 for averaged in weights(run)[2:])
    run.forget_averages()
    assert all(averaged.eq(100).all() for averaged in weights(run)[2:])
    make_run(tmp_path / "other", ema_decay=0).forget_averages()  # there are none


def test_a_half_written_checkpoint_is_ignored(tmp_path):
    train(make_run(tmp_path))
    half = tmp_path / "checkpoints" / "step-00000013.part"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert make_run(tmp_path).step == 12


def test_only_the_newest_checkpoint_is_kept(tmp_path):
    train(make_run(tmp_path), until=5)
    train(make_run(tmp_path))
    assert [place.name for place in (tmp_path / "checkpoints").iterdir()] == ["step-00000012"]


def test_a_resumed_run_logs_each_step_once(tmp_path):
    run = make_run(tmp_path, log_every=1)
    for _ in run.steps():
        run.update(run.model(torch.ones(1, 3)).square().mean())
        if run.step == 3:
            run.save()
        if run.step == 5:  # killed here: the log is ahead of the checkpoint
            break
    train(make_run(tmp_path, log_every=1))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))


def test_its_log_can_be_plotted(tmp_path):
    pytest.importorskip("matplotlib")
    train(make_run(tmp_path))
    plot_run(tmp_path, tmp_path / "log.png")
    assert (tmp_path / "log.png").stat().st_size > 10_000


def test_the_log_has_the_mean_of_each_figure(tmp_path):
    run = make_run(tmp_path)
    for step in run.steps():
        run.update(run.model(torch.ones(1, 3)).square().mean(), step_twice=2 * step)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert [line["step_twice"] for line in lines] == [3, 11, 19]
    assert all(line["learning_rate"] >= 0 and line["samples_per_s"] > 0 for line in lines)
    assert lines[-1]["learning_rate"] == 0


def test_another_configuration_in_the_same_folder_is_refused(tmp_path):
    train(make_run(tmp_path))
    with pytest.raises(CheckpointError, match=r"other settings \(learning_rate: 0.05 before, 0.1 now\)"):
        make_run(tmp_path, learning_rate=0.1)
    assert make_run(tmp_path, log_every=1).step == 12


def test_another_model_in_the_same_folder_is_refused(tmp_path):
    train(make_run(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"(?s)cannot be loaded: .*belongs to another model, give the run another folder"
    ):
        PretrainingRun(tmp_path, nn.Linear(5, 1), config())


def test_a_longer_run_begins_with_the_weights_of_a_shorter_one(tmp_path):
    first = train(make_run(tmp_path / "first"))
    longer = make_run(tmp_path / "longer", num_steps=20, start_from=str(tmp_path / "first"))
    assert longer.step == 0
    for one, other in zip(first.model.parameters(), longer.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    train(longer, until=4)
    again = make_run(tmp_path / "longer", num_steps=20, start_from=str(tmp_path / "first"))
    assert again.step == 4
    torch.testing.assert_close(again.model.weight, longer.model.weight, rtol=0, atol=0)


def test_weights_that_do_not_fit_are_not_begun_with(tmp_path):
    train(make_run(tmp_path / "first"))
    for model, folder in ((nn.Linear(5, 1), "first"), (nn.Linear(3, 1), "none")):
        with pytest.raises(CheckpointError, match=f"start_from is '.*{folder}', which holds no weights of this model"):
            PretrainingRun(tmp_path / "new", model, config(start_from=str(tmp_path / folder)))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    train(make_run(tmp_path, num_steps=3))
    run = make_run(tmp_path / "other")
    with pytest.raises(CheckpointError, match="The loss of step 0 is nan"):
        run.update(run.model(torch.full((1, 3), float("nan"))).mean())


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_is_a_checkpoint_and_the_old_handlers_come_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run = train(make_run(tmp_path), until=3)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "step-00000003"
    assert run.step == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_factor_makes_the_steps_of_one_parameter_larger(tmp_path):
    ends = []
    for name, factor in (("plain", 1.0), ("larger", 3.0)):
        torch.manual_seed(0)
        layer = nn.Linear(3, 1)
        before = [each.detach().clone() for each in (layer.weight, layer.bias)]
        run = PretrainingRun(
            tmp_path / name, layer, config(num_steps=1, warmup_steps=0, weight_decay=0.0), {layer.weight: factor}
        )
        train(run)
        ends.append([now.detach() - then for now, then in zip((layer.weight, layer.bias), before, strict=True)])
    (weight, bias), (more, same) = ends
    torch.testing.assert_close(more, 3 * weight)
    torch.testing.assert_close(same, bias)
