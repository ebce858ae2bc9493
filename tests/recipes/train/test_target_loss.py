"""The loss at the targets, against the model's own loss over all places."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.recipes.train import target_loss
from mgem_agent.recipes.train.examples import NO_TARGET
from mgem_agent.recipes.train.target_loss import TargetLoss

Model = MiniGeminiForConditionalGeneration


def make_inputs(*, with_image: bool = True) -> dict[str, Tensor]:
    ids = torch.randint(3, 99, (2, 24))
    if with_image:
        ids[0, 2:18] = 100
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    labels = ids.clone()
    labels[:, :19] = NO_TARGET
    labels[mask == 0] = NO_TARGET
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if with_image:
        inputs |= {"pixel_values": torch.randn(1, 3, 28, 28), "high_res_pixel_values": torch.randn(1, 3, 64, 64)}
    return inputs


@pytest.fixture
def model(model_folder: Path) -> Model:
    return Model.from_pretrained(model_folder)


def gradients(model: Model, loss: Tensor) -> list[Tensor]:
    trunk: Any = model.model
    wanted = [*trunk.mining.parameters(), *trunk.language_model.layers.parameters()]
    return list(torch.autograd.grad(loss, wanted))


@pytest.mark.parametrize("targets_per_pass", [2048, 2])
def test_it_is_the_models_own_loss(model: Model, monkeypatch: pytest.MonkeyPatch, targets_per_pass: int) -> None:
    monkeypatch.setattr(target_loss, "_TARGETS_PER_PASS", targets_per_pass)
    inputs = make_inputs()
    count = int((inputs["labels"][:, 1:] != NO_TARGET).sum())
    own = model(**inputs).loss
    ours = TargetLoss(model)(inputs, torch.tensor(count))
    torch.testing.assert_close(ours, own)
    torch.testing.assert_close(gradients(model, ours), gradients(model, own))


LIGER = """
import sys, torch
from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.recipes.train.target_loss import TargetLoss
sys.path.insert(0, sys.argv[2])
from test_target_loss import gradients, make_inputs
model = MiniGeminiForConditionalGeneration.from_pretrained(sys.argv[1])
inputs, found = make_inputs(), []
for fused in (True, False):
    loss = TargetLoss(model, fused=fused)(inputs, torch.tensor(10))
    again = TargetLoss(model, fused=fused)(inputs, torch.tensor(10))
    found.append([loss, *gradients(model, loss), *torch.autograd.grad(again, [model.lm_head.weight])])
torch.testing.assert_close(*found)
print("equal", "liger_kernel.ops.fused_linear_cross_entropy" in sys.modules)
"""


@pytest.mark.slow
def test_ligers_kernel_gives_the_same_loss_and_gradients(model_folder: Path) -> None:
    pytest.importorskip("liger_kernel")
    command = [sys.executable, "-c", LIGER, str(model_folder), str(Path(__file__).parent)]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.stdout.endswith("equal True\n"), done.stderr


def test_a_head_in_parts_is_not_given_to_the_kernel(model: Model) -> None:
    model.lm_head.weight = torch.nn.Parameter(torch.empty(0))  # as ZeRO-3 leaves it outside of its forward
    has_whole_head = TargetLoss(model, fused=True)._has_whole_head  # pyright: ignore[reportPrivateUsage]
    assert not has_whole_head()


def test_the_sum_is_divided_by_the_targets_of_the_whole_step(model: Model) -> None:
    inputs = make_inputs()
    loss = TargetLoss(model)
    torch.testing.assert_close(loss(inputs, torch.tensor(10)) * 10, loss(inputs, torch.tensor(1)))


def test_text_alone_reaches_the_vision_part_where_others_wait_for_it(model: Model) -> None:
    inputs = make_inputs(with_image=False)
    one = torch.tensor(1)
    plain, waiting = TargetLoss(model)(inputs, one), TargetLoss(model, needs_images=True)(inputs, one)
    assert torch.equal(plain, waiting)
    trunk: Any = model.model
    mining = list(trunk.mining.parameters())
    assert all(gradient is None for gradient in torch.autograd.grad(plain, mining, allow_unused=True))
    assert all(not gradient.any() for gradient in torch.autograd.grad(waiting, mining))


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gemma2", {"final_logit_softcapping": 0.1, "head_dim": 16}),
        ("mixtral", {"output_router_logits": True, "router_aux_loss_coef": 10.0}),
    ],
)
def test_what_belongs_to_a_familys_head_is_kept(model: Model, family: str, options: dict[str, Any]) -> None:
    config = MiniGeminiConfig(
        text_config={**model.config.text_config.to_dict(), **options, "model_type": family},
        vision_config=model.config.vision_config.to_dict(),
        high_res_vision_config=model.config.high_res_vision_config.to_dict(),
        high_res_image_size=64,
        image_token_id=100,
    )
    other = Model(config).eval()
    inputs = make_inputs()
    count = int((inputs["labels"][:, 1:] != NO_TARGET).sum())
    torch.testing.assert_close(TargetLoss(other)(inputs, torch.tensor(count)), other(**inputs).loss)
