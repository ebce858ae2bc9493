"""The operations of a token, against torch's own counter, and the peak of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.model_setup import prepare_model
from mgem_agent.recipes.train.program import train
from mgem_agent.recipes.train.run_log import read_log
from mgem_agent.recipes.train.utilisation import flops_per_token, measured_peak

MakeRun = Callable[..., TrainConfig]


@pytest.mark.parametrize("changes", [{"train": {"llm": "full"}}, {"train": {"llm": "lora", "lora": {"rank": 3}}}])
def test_operations_of_a_token_are_those_that_torch_counts(make_run: MakeRun, changes: dict[str, object]) -> None:
    model = prepare_model(make_run(**changes), torch.float32).model
    embedded = torch.randn(1, 16, 32, requires_grad=True)  # as where the projector before it is trained
    with FlopCounterMode(display=False) as counter:
        logits = model(inputs_embeds=embedded, use_cache=False).logits
        logits.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(value for name, value in counts.items() if "mm" in str(name) and "bmm" not in str(name))
    assert flops_per_token(model) * 16 == pytest.approx(products, rel=0.05)


def test_the_peak_is_that_of_this_machine() -> None:
    assert 1e8 < measured_peak(torch.device("cpu"), torch.float32) < 1e14


def test_a_run_logs_its_share_of_the_peak(make_run: MakeRun) -> None:
    said: list[str] = []
    config = make_run(run__max_steps=2)
    train(config, report=said.append)
    lines = [line for line in read_log(Path(config.run.output)) if "mfu" in line]
    assert [0 < line["mfu"] < 1 for line in lines] == [True, True]
    assert f"tokens/s, MFU {lines[-1]['mfu']:.1%}, 0 min left" in said[-1]
