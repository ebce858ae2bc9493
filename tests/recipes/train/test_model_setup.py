"""What is frozen and what is trained, how fast, and what a run starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mgem_agent.errors import CheckpointError, InputError
from mgem_agent.recipes.train.config import ModelConfig, TrainConfig
from mgem_agent.recipes.train.model_outline import read_model_config
from mgem_agent.recipes.train.model_setup import (
    check_places,
    load_model,
    load_trained,
    parameter_groups,
    prepare_model,
)
from mgem_agent.recipes.train.program import training_examples

MakeRun = Callable[..., TrainConfig]


def trained_names(config: TrainConfig) -> set[str]:
    model = prepare_model(config, torch.float32).model
    names = (name.removeprefix("model.") for name, value in model.named_parameters() if value.requires_grad)
    return {"lora" if "lora_" in name else name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stage": "align", "train": {}}, {"mining", "multi_modal_projector"}),
        ({"train": {"llm": "full"}}, {"mining", "multi_modal_projector", "language_model", "lm_head"}),
        ({"train": {"llm": "lora", "mining": False}}, {"lora", "multi_modal_projector"}),
        ({"train": {"vision_tower": True}}, {"mining", "multi_modal_projector", "vision_tower"}),
        ({"train": {"high_res_vision_tower": True}}, {"mining", "multi_modal_projector", "high_res_vision_tower"}),
    ],
)
def test_only_what_is_asked_for_is_trained(make_run: MakeRun, changes: dict[str, object], expected: set[str]) -> None:
    assert trained_names(make_run(**changes)) == expected


def test_layers_that_are_never_run_wait_for_no_gradient(make_run: MakeRun) -> None:
    tower: Any = prepare_model(make_run(train={"vision_tower": True}), torch.float32).model.model.vision_tower
    assert tower.encoder.layers[0].mlp.fc1.weight.requires_grad
    assert not tower.encoder.layers[-1].mlp.fc1.weight.requires_grad


def test_trained_weights_are_float32_and_frozen_ones_as_asked(make_run: MakeRun) -> None:
    model = prepare_model(make_run(), torch.bfloat16).model
    kinds = {(parameter.requires_grad, parameter.dtype) for parameter in model.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


def test_adapters_that_have_nowhere_to_go_are_refused(make_run: MakeRun) -> None:
    expected = (
        r"train.lora.targets=\['wq'\] are not linear layers of the language model. It has: down_proj, gate_proj, k_proj"
    )
    with pytest.raises(InputError, match=expected):
        prepare_model(make_run(train__lora={"targets": ["wq"]}), torch.float32)


def test_learning_rates_and_decay_go_by_name_and_shape(make_run: MakeRun) -> None:
    model = prepare_model(make_run(stage="align", train={}), torch.float32).model
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.1, multipliers={"mining": 2.0})
    found = {(group["lr"], group["weight_decay"]): len(group["params"]) for group in groups}
    assert found == {(2.0, 0.1): 3, (2.0, 0.0): 9, (1.0, 0.1): 2, (1.0, 0.0): 2}
    assert all(group["base_lr"] == group["lr"] for group in groups)
    with pytest.raises(InputError, match=r"multipliers names 'vlm_uni', but no trained parameter's name contains it"):
        parameter_groups(model, learning_rate=1.0, weight_decay=0.0, multipliers={"vlm_uni": 2.0})


def test_weights_that_do_not_fit_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    model = prepare_model(make_run(), torch.float32).model
    with pytest.raises(CheckpointError, match=r"holds no trained.safetensors. Give the folder of a finished run"):
        load_trained(model, tmp_path)
    file = tmp_path / "trained.safetensors"
    save_file({"model.mining.query_norm.bias": torch.zeros(3), "x": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError) as caught:
        load_trained(model, tmp_path)
    assert caught.value.unexpected == ("x",)
    assert caught.value.mismatched == ("model.mining.query_norm.bias: (3,), needed (16,)",)
    file.write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"cannot be read: .*Run that stage again\."):
        load_trained(model, tmp_path)


@pytest.mark.parametrize(("given", "expected"), [(None, "chatml"), ("vicuna_v1", "vicuna_v1")])
def test_a_checkpoint_is_trained_in_its_own_dialogue_format_unless_another_is_given(
    settings: dict[str, Any], given: str | None, expected: str
) -> None:
    settings["model"]["prompt_template"] = given
    config = TrainConfig.model_validate(settings)
    trained = prepare_model(config, torch.float32)
    assert trained.model.config.prompt_template == trained.processor.prompt_template == expected
    examples = training_examples(config.data.sources, config, trained)
    ids = examples.batch([0]).inputs["input_ids"][0]
    assert ("<|im_start|>" in trained.processor.tokenizer.decode(ids.clamp(max=99))) == (expected == "chatml")


@pytest.mark.parametrize("name", ["runs/encoders/clip", "./clip", "~/no-such-clip", "/no/such/clip", "owner/name/deep"])
def test_a_path_that_is_not_there_is_told_without_asking_the_hub(name: str) -> None:
    source = ModelConfig(vision=name, high_res_vision="laion/convnext", text="nano")
    for use in (read_model_config, lambda given: load_model(given, torch.float32)):
        with pytest.raises(InputError, match=r"^model\.vision is '.*': there is no such folder or file in '"):
            use(source)


@pytest.mark.parametrize("name", ["openai/clip-vit-large-patch14-336", "gpt2", "hf-hub:laion/CLIP-convnext_base_w_320"])
def test_a_name_that_may_be_a_hub_id_is_left_to_the_hub(name: str) -> None:
    check_places(ModelConfig(vision=name, high_res_vision=name, text="nano"))
