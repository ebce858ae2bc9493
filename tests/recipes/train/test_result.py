"""What a run leaves, and that it is the same model however it is put together again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, LlamaForCausalLM

from mgem_agent.core_model import (
    MiniGeminiForConditionalGeneration,
    MiniGeminiProcessor,
    load_without_language_model,
)
from mgem_agent.errors import InputError
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.program import train
from mgem_agent.recipes.train.result import export_model, export_without_llm

MakeRun = Callable[..., TrainConfig]


def scores(model: MiniGeminiForConditionalGeneration) -> torch.Tensor:
    torch.manual_seed(1)
    ids = torch.randint(3, 99, (1, 24))
    ids[0, 2:18] = 100
    with torch.no_grad():
        logits = model.eval()(
            input_ids=ids,
            pixel_values=torch.randn(1, 3, 28, 28),
            high_res_pixel_values=torch.randn(1, 3, 64, 64),
        ).logits
    assert logits is not None
    return logits


@pytest.fixture
def base_llm(model_folder: Path, tmp_path: Path) -> Path:
    """The language model alone, as it was before."""
    whole = MiniGeminiForConditionalGeneration.from_pretrained(model_folder)
    llm = LlamaForCausalLM(whole.config.text_config)
    llm.model.load_state_dict(whole.model.language_model.state_dict())
    llm.lm_head.load_state_dict(whole.lm_head.state_dict())
    llm.save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


def test_adapters_merge_or_travel_apart(make_run: MakeRun, model_folder: Path, base_llm: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(make_run(run__max_steps=3))
    assert {place.name for place in run.iterdir()} == {
        "adapter", "checkpoints", "config.yaml", "log.jsonl", "trained.safetensors",
    }  # fmt: skip
    export_model(run, tmp_path / "whole", torch.float32)
    export_without_llm(run, tmp_path / "small", torch.float32)
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole")
    MiniGeminiProcessor.from_pretrained(tmp_path / "whole")
    put_together = load_without_language_model(tmp_path / "small", base_llm)
    torch.testing.assert_close(scores(put_together), scores(merged))
    before = MiniGeminiForConditionalGeneration.from_pretrained(model_folder)
    assert (scores(merged) - scores(before)).abs().max() > 0.01
    assert not any("language_model" in name for name in load_file(tmp_path / "small" / "model.safetensors"))
    assert {place.name for place in (tmp_path / "small").iterdir()} == {"adapter", "config.json", "model.safetensors"}
    paths = re.findall(r'"_name_or_path": "(.*)"', (tmp_path / "small" / "config.json").read_text())
    assert not any(paths)  # no path of this machine
    module = AutoModelForCausalLM.from_pretrained(base_llm)
    assert torch.equal(scores(load_without_language_model(tmp_path / "small", module)), scores(put_together))


def test_the_small_folder_is_half_precision(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(run__max_steps=1))
    export_without_llm(tmp_path / "run", tmp_path / "small")
    for file in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert {value.dtype for value in load_file(tmp_path / "small" / file).values()} == {torch.float16}
    with pytest.raises(InputError, match=r"small' already exists\. Delete it, or give another folder\."):
        export_without_llm(tmp_path / "run", tmp_path / "small")


def test_a_model_trained_whole_is_saved_whole(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(train__llm="full", run__max_steps=2))
    model = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path / "run" / "model")
    MiniGeminiProcessor.from_pretrained(tmp_path / "run" / "model")
    export_model(tmp_path / "run", tmp_path / "whole", torch.float32)
    exported = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path / "whole")
    assert torch.equal(scores(model), scores(exported))
    with pytest.raises(InputError, match=r"trained the language model itself, so its weights are needed"):
        export_without_llm(tmp_path / "run", tmp_path / "small")


def test_the_second_stage_starts_from_the_first(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run(stage="align", train__llm="frozen", run__output=str(tmp_path / "align"), run__save="trained")
    train(first)
    weights = load_file(tmp_path / "align" / "trained.safetensors")
    assert {name.split(".")[1] for name in weights} == {"mining", "multi_modal_projector"}
    second = make_run(model__start_from=first.run.output, run__max_steps=1, optimizer__learning_rate=1e-12)
    train(second)
    after = load_file(tmp_path / "run" / "trained.safetensors")
    for name, value in weights.items():
        torch.testing.assert_close(after[name], value)


def test_a_run_goes_on_from_an_adapter_and_from_several_runs(make_run: MakeRun, tmp_path: Path) -> None:
    eyes = make_run(stage="align", train__llm="frozen", run__output=str(tmp_path / "eyes"), run__save="trained")
    first = make_run(run__max_steps=3, run__output=str(tmp_path / "first"))
    train(eyes)
    train(first)
    starts = [first.run.output, eyes.run.output]
    further = make_run(
        model__start_from=starts,
        run__max_steps=1,
        optimizer__learning_rate=1e-12,
        run__output=str(tmp_path / "further"),
    )
    train(further)
    seen, begun, after = (load_file(tmp_path / run / "trained.safetensors") for run in ("eyes", "first", "further"))
    assert any("lora_B" in name and value.abs().max() > 0 for name, value in begun.items())
    for name, value in (begun | seen).items():
        torch.testing.assert_close(after[name], value)
    whole = make_run(model__start_from=first.run.output, train={"llm": "full"}, run__output=str(tmp_path / "whole"))
    with pytest.raises(InputError, match=r"holds an adapter, and this run has train.llm=full. Set it to lora, or"):
        train(whole)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is not the folder of a run: it has no config.yaml\. Give the folder that run.output names\."
    ):
        export_model(tmp_path, tmp_path / "out")
