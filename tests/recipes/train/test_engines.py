"""Training in two processes, by each way to share the model: the same losses, weights and files as in one process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.errors import CheckpointError, InputError
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.program import train
from mgem_agent.recipes.train.result import export_model
from mgem_agent.recipes.train.run_log import read_log

MakeRun = Callable[..., TrainConfig]
Launch = Callable[..., str]

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason="deepspeed is not installed: pip install mgem-agent[deepspeed]",
)
SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "max_position_embeddings",
)  # fmt: skip
ZERO = [pytest.param(name, marks=needs_deepspeed) for name in ("zero2", "zero3")]
OFFLOAD = [pytest.param(name, marks=needs_deepspeed) for name in ("zero2_offload", "zero3_offload")]


def losses(run: str | Path, key: str = "loss") -> list[float]:
    return [record[key] for record in read_log(Path(run)) if key in record]


def result(run: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(run) / "trained.safetensors")


def assert_close(run: str | Path, other: str | Path, tolerance: float = 1e-4) -> None:
    """Same losses and same trained weights, within rounding."""
    assert losses(run) == pytest.approx(losses(other), rel=tolerance)
    weights, others = result(run), result(other)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(
            value, others[name], rtol=0.02, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("llm", ["full", "lora", "frozen"])
@pytest.mark.parametrize("engine", ["ddp", *ZERO, "fsdp2", *OFFLOAD])
def test_two_processes_learn_as_one(
    launch: Launch, make_run: MakeRun, settings: dict[str, Any], tmp_path: Path, engine: str, llm: str
) -> None:
    settings["stage"] = "align" if llm == "frozen" else "instruct"
    settings["train"] = {"llm": llm, "lora": {"rank": 300}}
    settings["run"] |= {"micro_batch": 1, "save": "trained", "max_steps": 3}
    settings["optimizer"] |= {"learning_rate": 1e-3, "weight_decay": 0.5, "max_grad_norm": 0.05, "warmup_ratio": 0}
    settings["evaluation"] = {"sources": settings["data"]["sources"], "every": 3}
    one = make_run(run__output=str(tmp_path / "one"))
    train(one)
    two = make_run(run__output=str(tmp_path / "two"))
    said = launch(engine, two)
    assert "2 process(es)" in said
    assert " 0 of 0 parameters" not in said
    assert_close(one.run.output, two.run.output)
    assert losses(two.run.output, "evaluation_loss") == pytest.approx(
        losses(one.run.output, "evaluation_loss"), rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", *ZERO, "fsdp2"])
def test_two_processes_learn_as_one_in_bfloat16(
    launch: Launch, make_run: MakeRun, settings: dict[str, Any], tmp_path: Path, engine: str
) -> None:
    settings["train"] = {"llm": "full"}
    settings["run"] |= {"micro_batch": 1, "save": "trained", "max_steps": 4, "precision": "bf16"}
    one, two = (make_run(run__output=str(tmp_path / name)) for name in ("one", "two"))
    launch("ddp", one, num_processes=1)  # the number format of a process cannot change
    launch(engine, two)
    assert losses(two.run.output) == pytest.approx(losses(one.run.output), rel=5e-3)  # two products round differently
    assert {value.dtype for value in result(two.run.output).values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", *ZERO, "fsdp2", *OFFLOAD])
def test_a_killed_rank_changes_nothing(launch: Launch, make_run: MakeRun, tmp_path: Path, engine: str) -> None:
    whole, killed = (make_run(run__output=str(tmp_path / name), run__micro_batch=1) for name in ("whole", "killed"))
    launch(engine, whole)
    launch(engine, killed, die_at=3, expect=-9)
    said = launch(engine, killed)
    assert "from step 2;" in said
    if engine.endswith("offload"):  # DeepSpeed's CPU optimizer resumes within rounding
        assert_close(killed.run.output, whole.run.output, 1e-5)
        return
    assert losses(killed.run.output) == losses(whole.run.output)
    weights, others = result(killed.run.output), result(whole.run.output)
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_a_run_resumes_in_another_number_of_processes(
    launch: Launch, make_run: MakeRun, settings: dict[str, Any], tmp_path: Path, engine: str
) -> None:
    settings["train"]["lora"]["dropout"] = 0.0
    whole, changed = (make_run(run__output=str(tmp_path / name), run__micro_batch=1) for name in ("whole", "changed"))
    train(whole)
    launch(engine, changed, die_at=3, expect=-9)
    assert "4 process(es)" in launch(engine, changed, num_processes=4)
    assert_close(whole.run.output, changed.run.output)


@pytest.mark.slow
@needs_deepspeed
def test_zero_names_the_processes_that_wrote_a_checkpoint(launch: Launch, make_run: MakeRun) -> None:
    config = make_run(run__micro_batch=1)
    launch("zero2", config, die_at=3, expect=-9)
    said = launch("zero2", config, num_processes=4, expect=1)
    assert "was written by ZeRO-2 in 2 process(es); this is ZeRO-2 in 4. Resume with the same" in said
    with pytest.raises(CheckpointError, match=r"written by ZeRO-2 in 2 process\(es\); this is one process in 1"):
        train(config)
    with pytest.raises(InputError, match=r"has no result yet, and its checkpoint is divided among 2 processes"):
        export_model(Path(config.run.output), Path(config.run.output).with_name("out"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", [*ZERO, "fsdp2"])
def test_a_model_built_from_parts_and_a_run_is_saved_whole(
    launch: Launch,
    make_run: MakeRun,
    settings: dict[str, Any],
    encoder_parts: dict[str, str],
    tmp_path: Path,
    engine: str,
) -> None:
    settings["model"] = {**encoder_parts, "high_res_image_size": 128, "prompt_template": "chatml"}
    settings["run"] |= {"micro_batch": 1, "max_steps": 2}
    first = make_run(stage="align", train={}, run__output=str(tmp_path / "align"), run__save="trained")
    train(first)
    settings["train"] = {"llm": "full"}
    settings["model"]["start_from"] = first.run.output
    one, two = (make_run(run__output=str(tmp_path / name)) for name in ("one", "two"))
    train(one)
    launch(engine, two)
    assert losses(two.run.output) == pytest.approx(losses(one.run.output), rel=1e-4)
    expected, found = (
        MiniGeminiForConditionalGeneration.from_pretrained(Path(run.run.output) / "model").state_dict()
        for run in (one, two)
    )
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.02, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma", "mixtral"])
@pytest.mark.parametrize("engine", ["ddp", *ZERO, "fsdp2"])
def test_other_families_learn_as_in_one_process(
    launch: Launch,
    make_run: MakeRun,
    settings: dict[str, Any],
    model_folder: Path,
    tmp_path: Path,
    family: str,
    engine: str,
) -> None:
    config = MiniGeminiConfig.from_pretrained(model_folder).to_dict()
    text = {key: config["text_config"][key] for key in SIZES}
    more = {"num_local_experts": 4, "num_experts_per_tok": 2} if family == "mixtral" else {"head_dim": 16}
    config["text_config"] = {"model_type": family, **text, **more}
    MiniGeminiForConditionalGeneration(MiniGeminiConfig.from_dict(config)).save_pretrained(tmp_path / "model")
    MiniGeminiProcessor.from_pretrained(model_folder).save_pretrained(tmp_path / "model")
    settings["model"]["checkpoint"] = str(tmp_path / "model")
    settings["train"] = {"llm": "full"}
    settings["run"] |= {"micro_batch": 1, "max_steps": 2, "save": "trained"}
    settings["optimizer"]["learning_rate"] = 1e-3
    one, two = (make_run(run__output=str(tmp_path / name)) for name in ("one", "two"))
    train(one)
    launch(engine, two)
    assert losses(two.run.output) == pytest.approx(losses(one.run.output), rel=1e-4)


@pytest.mark.slow
@needs_deepspeed
def test_zero_keeps_no_full_gradient(launch: Launch, make_run: MakeRun) -> None:
    said = launch("zero2", make_run(run__micro_batch=1, run__max_steps=2, train__llm="full"), counts_gradients=True)
    assert "parameters with a gradient after a step: 0" in said
