"""The held-out loss: the mean over target tokens, however it is shared out, leaving training as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.recipes.train.examples import Examples
from mgem_agent.recipes.train.held_out import HeldOut
from mgem_agent.recipes.train.records import RecordFile
from mgem_agent.recipes.train.target_loss import TargetLoss


def test_it_is_the_mean_over_targets(model_folder: Path, data_file: Path) -> None:
    examples = Examples(
        [RecordFile(data_file)],
        MiniGeminiProcessor.from_pretrained(model_folder),
        prompt_template="chatml",
        image_aspect_ratio="pad",
        max_length=256,
        on_broken="error",
        on_too_long="broken",
    )
    module = TargetLoss(MiniGeminiForConditionalGeneration.from_pretrained(model_folder)).train()
    accelerator = Accelerator(cpu=True)
    before = torch.get_rng_state()
    found = [
        HeldOut(examples, every=2, max_records=None, micro_batch=size, process=0, num_processes=1).loss(
            accelerator, module
        )
        for size in (1, 5)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert module.training
    whole = examples.batch(range(12))
    with torch.no_grad():
        expected = float(module(whole.inputs, torch.tensor(whole.num_targets)))
    assert found == pytest.approx([expected, expected], rel=1e-5)


def test_processes_have_the_same_number_of_batches(model_folder: Path, data_file: Path) -> None:
    examples = Examples(
        [RecordFile(data_file)],
        MiniGeminiProcessor.from_pretrained(model_folder),
        prompt_template="chatml",
        image_aspect_ratio="pad",
        max_length=256,
        on_broken="error",
        on_too_long="broken",
    )
    shares = [
        HeldOut(examples, every=2, max_records=5, micro_batch=1, process=process, num_processes=2)
        for process in range(2)
    ]
    assert [share.num_batches for share in shares] == [3, 3]
    assert [step for step in range(1, 8) if shares[0].is_due(step, 7)] == [2, 4, 6, 7]
