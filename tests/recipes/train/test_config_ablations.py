"""The ablations of Tables 2 and 3: each shipped configuration, planned at its real size and built on small parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.high_res_encoder import HighResEncoder, high_res_config_from_open_clip
from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.recipes.eval.paper.benchmarks import Ablation, ablations
from mgem_agent.recipes.eval.paper.tables import check_ablation_model
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.config_file import load_config, shipped_configs
from mgem_agent.recipes.train.dry_run import estimate_run
from mgem_agent.recipes.train.program import train

NAMES = [name for name in shipped_configs() if name.startswith("ablation_")]
ROWS = {name: row for row in ablations() for name in row.train}

CONVNEXTS = {"base": "convnext_base_w_320", "large": "convnext_large_d_320", "xxlarge": "convnext_xxlarge"}
MINING = {"base": 4_993_536, "large": 6_963_456, "xxlarge": 12_873_216, None: 0}
ENCODERS = {"base": 87_564_416, "large": 196_227_264, "xxlarge": 843_391_872, None: 0}
"""Parameters of the released code's modules."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration files of real encoders, and of a small language model as wide as Vicuna-7B."""
    folder = tmp_path_factory.mktemp("parts")
    wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    for side in (224, 336):
        CLIPVisionConfig(**wide, image_size=side, patch_size=14).save_pretrained(folder / f"clip-{side}")
    for size, name in CONVNEXTS.items():
        (folder / size).mkdir()
        content = {"model_cfg": open_clip.get_model_config(name)}
        (folder / size / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    LlamaConfig(hidden_size=4096, num_hidden_layers=1).save_pretrained(folder / "text")
    return folder


def size_of(config: TrainConfig) -> str | None:
    """Return which ConvNeXt a configuration names."""
    named = config.model.high_res_vision
    return None if named is None else next(size for size in CONVNEXTS if f"convnext_{size}" in named)


def with_parts(name: str, folder: Path, *words: str) -> TrainConfig:
    """Return a configuration with its parts in a folder."""
    config = load_config(name)
    side = 336 if str(config.model.vision).endswith("336") else 224
    own = [f"model.vision={folder / f'clip-{side}'}", f"model.text={folder / 'text'}"]
    size = size_of(config)
    own += [] if size is None else [f"model.high_res_vision={folder / size}"]
    return load_config(name, [*own, *words])


def test_every_row_has_both_stages() -> None:
    assert set(NAMES) <= set(ROWS)
    for row in ablations():
        align, instruct = (load_config(name) for name in row.train)
        assert (align.stage, instruct.stage) == ("align", "instruct")
        assert instruct.model.start_from == align.run.output
        if row.table == 2:  # the rows of Table 3 share an align stage, whose sizes token extension changes
            assert (align.model.vision, align.model.high_res_vision) == (
                instruct.model.vision,
                instruct.model.high_res_vision,
            )


def test_data_rows_add_one_by_one() -> None:
    rows = [load_config(row.train[1]) for row in ablations() if row.id.startswith("data-")][
        :-1
    ]  # + ALLaVA is the whole
    sources = [{Path(source.path).stem for source in config.data.sources} for config in rows]
    assert sources[0] == {"llava_665k", "textcaps", "sharegpt4v_100k"}
    assert sources[1] == sources[0] - {"textcaps"}
    added = [after - before for before, after in zip(sources[1:], sources[2:], strict=False)]
    assert added == [{"laion_gpt4v"}, {"docvqa", "chartqa", "dvqa", "ai2d"}, {"mgm_generation", "lima", "oasst2"}]
    assert all(before < after for before, after in zip(sources[1:], sources[2:], strict=False))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_planned_at_its_real_size(name: str, parts: Path) -> None:
    config = with_parts(name, parts)
    estimate = estimate_run(config, num_processes=16)
    sizes = {part.name: (part.num_trained, part.num_frozen) for part in estimate.parts}
    size = size_of(load_config(name))
    assert sizes["mining"] == (MINING[size], 0)
    assert sizes["high_res_vision_tower"] == (0, ENCODERS[size])
    assert set(estimate.missing) == {source.path for source in config.data.sources}


class Built:
    """Small parts with the image sizes of the real ones."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        self.folder = folder
        small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 1}
        for side in (224, 336):
            CLIPVisionModel(CLIPVisionConfig(**small, image_size=side, patch_size=14)).save_pretrained(
                folder / f"clip-{side}"
            )
        model_config: Any = {
            "embed_dim": 8,
            "vision_cfg": {
                "timm_model_name": "test_convnext",
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 64,
            },
            "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 8, "heads": 1, "layers": 1},
        }
        encoder = HighResEncoder(high_res_config_from_open_clip(model_config))
        weights = {f"visual.trunk.{name}": value for name, value in encoder.state_dict().items()}
        for size in CONVNEXTS:
            (folder / size).mkdir()
            (folder / size / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_config}))
            torch.save(weights, folder / size / "open_clip_pytorch_model.bin")
        from transformers import LlamaForCausalLM

        text = LlamaConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
            vocab_size=len(tokenizer), max_position_embeddings=4096,
        )  # fmt: skip
        LlamaForCausalLM(text).save_pretrained(folder / "text")
        tokenizer.save_pretrained(folder / "text")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Built:
    return Built(tmp_path_factory.mktemp("built"), tokenizer)


@pytest.mark.parametrize("row", [row for row in ablations() if row.table == 2], ids=lambda row: row.id)
def test_a_model_of_each_row_has_its_sizes(row: Ablation, built: Built) -> None:
    from mgem_agent.recipes.train.model_setup import load_model

    config = with_parts(row.train[1], built.folder)
    model, processor = load_model(config.model, torch.float32)
    check_ablation_model(row, model.config)
    assert (model.model.mining is None) == (row.high_res is None)
    pixels = processor(images=[Image.new("RGB", (50, 40), "red")])
    features: Any = model.get_image_features(**pixels).pooler_output
    assert [feature.shape for feature in features] == [(row.tokens, 16)]


def test_a_baseline_is_trained_and_evaluated(
    built: Built, data_file: Path, tmp_path: Path, make_run: Callable[..., TrainConfig]
) -> None:
    runs = {}
    for stage in ("align", "instruct"):
        output = tmp_path / stage
        words = [
            f"data.sources=[{{path: {data_file}}}]", f"run.output={output}", "run.max_steps=2", "run.global_batch=4",
            "run.micro_batch=2", "run.precision=fp32", "data.num_workers=0", "data.prompt_template=chatml",
            "model.prompt_template=chatml", "run.log_every=1", "run.gradient_checkpointing=false",
        ]  # fmt: skip
        words += [f"model.start_from={tmp_path / 'align'}"] if stage == "instruct" else []
        outcome = train(with_parts(f"ablation_baseline_224_{stage}", built.folder, *words))
        assert outcome.step == 2 and outcome.loss is not None
        runs[stage] = output
    model = MiniGeminiForConditionalGeneration.from_pretrained(runs["instruct"] / "model")
    assert model.model.mining is None and model.model.high_res_vision_tower is None
    processor = MiniGeminiProcessor.from_pretrained(runs["instruct"] / "model")
    assert list(processor(images=[Image.new("RGB", (9, 9))])) == ["pixel_values"]
