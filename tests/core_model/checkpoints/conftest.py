"""Checkpoints in the authors' layout, their keys and shapes written out by hand from the published key list.

Nothing here uses the library's own renaming: it is the other half of every comparison.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

Shapes = dict[str, tuple[int, ...]]

CLIP_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
}
CONVNEXT_L = {"hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]}

TINY_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
TINY_CONVNEXT = {"model_type": "convnext", "hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 2, 1]}
TINY_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 100,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES = {
    "llama": "MGMLlamaForCausalLM",
    "gemma": "MGMGemmaForCausalLM",
    "mistral": "MGMMistralForCausalLM",
    "mixtral": "MGMMixtralForCausalLM",
}


def with_bias(name: str, weight: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def clip_shapes(clip: dict[str, Any]) -> Shapes:
    """A CLIP vision tower, by the names of transformers 4."""
    width, mlp = clip["hidden_size"], clip["intermediate_size"]
    positions = (clip["image_size"] // clip["patch_size"]) ** 2 + 1
    shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, clip["patch_size"], clip["patch_size"]),
        "embeddings.position_embedding.weight": (positions, width),
        **with_bias("pre_layrnorm", (width,)),
        **with_bias("post_layernorm", (width,)),
    }
    for layer in range(clip["num_hidden_layers"]):
        name = f"encoder.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= with_bias(f"{name}.self_attn.{projection}", (width, width))
        shapes |= with_bias(f"{name}.layer_norm1", (width,)) | with_bias(f"{name}.layer_norm2", (width,))
        shapes |= with_bias(f"{name}.mlp.fc1", (mlp, width)) | with_bias(f"{name}.mlp.fc2", (width, mlp))
    return shapes


def convnext_shapes(convnext: dict[str, Any], stem: str, stages: str) -> Shapes:
    """A ConvNeXt trunk, by timm's names."""
    widths = convnext["hidden_sizes"]
    shapes = with_bias(f"{stem}.0", (widths[0], 3, 4, 4)) | with_bias(f"{stem}.1", (widths[0],))
    for stage, (width, depth) in enumerate(zip(widths, convnext["depths"], strict=True)):
        if stage:
            shapes |= with_bias(f"{stages}.{stage}.downsample.0", (widths[stage - 1],))
            shapes |= with_bias(f"{stages}.{stage}.downsample.1", (width, widths[stage - 1], 2, 2))
        for block in range(depth):
            name = f"{stages}.{stage}.blocks.{block}"
            shapes[f"{name}.gamma"] = (width,)
            shapes |= with_bias(f"{name}.conv_dw", (width, 1, 7, 7)) | with_bias(f"{name}.norm", (width,))
            shapes |= with_bias(f"{name}.mlp.fc1", (4 * width, width)) | with_bias(
                f"{name}.mlp.fc2", (width, 4 * width)
            )
    return shapes


def llm_shapes(text: dict[str, Any], family: str) -> Shapes:
    """A causal language model, by the names of its own published checkpoint."""
    width, mlp, vocab = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    head = text.get("head_dim") or width // text["num_attention_heads"]
    queries, keys = head * text["num_attention_heads"], head * text["num_key_value_heads"]
    shapes: Shapes = {
        "model.embed_tokens.weight": (vocab, width),
        "model.norm.weight": (width,),
        "lm_head.weight": (vocab, width),
    }
    for layer in range(text["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.input_layernorm.weight": (width,),
            f"{name}.post_attention_layernorm.weight": (width,),
            f"{name}.self_attn.q_proj.weight": (queries, width),
            f"{name}.self_attn.k_proj.weight": (keys, width),
            f"{name}.self_attn.v_proj.weight": (keys, width),
            f"{name}.self_attn.o_proj.weight": (width, queries),
        }
        if family == "mixtral":
            shapes[f"{name}.block_sparse_moe.gate.weight"] = (text["num_local_experts"], width)
            for expert in range(text["num_local_experts"]):
                part = f"{name}.block_sparse_moe.experts.{expert}"
                shapes |= {f"{part}.w1.weight": (mlp, width), f"{part}.w3.weight": (mlp, width)}
                shapes[f"{part}.w2.weight"] = (width, mlp)
        else:
            shapes |= {f"{name}.mlp.gate_proj.weight": (mlp, width), f"{name}.mlp.up_proj.weight": (mlp, width)}
            shapes[f"{name}.mlp.down_proj.weight"] = (width, mlp)
    return shapes


def official_shapes(text: dict[str, Any], family: str, clip: dict[str, Any], convnext: dict[str, Any]) -> Shapes:
    """A whole checkpoint of the authors': language model, both towers, mining, projector."""
    query_dim, candidate_dim, width = clip["hidden_size"], sum(convnext["hidden_sizes"]), text["hidden_size"]
    shapes = llm_shapes(text, family)
    shapes |= with_bias("model.mm_projector.0", (width, query_dim)) | with_bias("model.mm_projector.2", (width, width))
    for name, dim in (("query", query_dim), ("aux", candidate_dim), ("val", candidate_dim)):
        shapes |= with_bias(f"model.vlm_uni_{name}_projector.0", (dim,))
        shapes |= with_bias(f"model.vlm_uni_{name}_projector.1", (query_dim, dim))
    tower = "model.vision_tower.vision_tower.vision_model"
    shapes |= {f"{tower}.{key}": shape for key, shape in clip_shapes(clip).items()}
    tower = "model.vision_tower_aux"
    return shapes | convnext_shapes(convnext, f"{tower}.vision_stem", f"{tower}.vision_stages")


def split_evenly(keys: list[str], num_shards: int) -> list[list[str]]:
    step = math.ceil(len(keys) / num_shards)
    return [keys[start : start + step] for start in range(0, len(keys), step)]


class OfficialFolder:
    """A folder in the authors' layout that a test writes and spoils."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write_config(self, config: dict[str, Any]) -> None:
        (self.path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def write_sparse(self, shapes: Shapes, num_shards: int = 2) -> None:
        """Write bfloat16 files of the true size whose tensors are holes: they take no room on the disk."""
        weight_map = {}
        for number, keys in enumerate(split_evenly(sorted(shapes), num_shards), start=1):
            name = f"model-{number:05d}-of-{num_shards:05d}.safetensors"
            header, end = {}, 0
            for key in keys:
                start, end = end, end + 2 * math.prod(shapes[key])
                header[key] = {"dtype": "BF16", "shape": list(shapes[key]), "data_offsets": [start, end]}
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            with open(self.path / name, "wb") as file:
                file.write(struct.pack("<Q", len(text)) + text)
                file.truncate(8 + len(text) + end)
            weight_map |= dict.fromkeys(keys, name)
        self.write_index("model.safetensors.index.json", weight_map)

    def write(self, tensors: dict[str, torch.Tensor], *, form: str = "safetensors", num_shards: int = 1) -> None:
        """Write real tensors, as safetensors or `.bin`."""
        suffix, stem = (".bin", "pytorch_model") if form == "bin" else (".safetensors", "model")
        weight_map = {}
        for number, keys in enumerate(split_evenly(sorted(tensors), num_shards), start=1):
            name = f"{stem}-{number:05d}-of-{num_shards:05d}{suffix}" if num_shards > 1 else stem + suffix
            part = {key: tensors[key] for key in keys}
            if form == "bin":
                torch.save(part, self.path / name)
            else:
                save_file(part, self.path / name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(keys, name)
        if num_shards > 1:
            self.write_index(f"{stem}{suffix}.index.json", weight_map)

    def write_index(self, name: str, weight_map: dict[str, str]) -> None:
        (self.path / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> OfficialFolder:
    return OfficialFolder(tmp_path / "official")


@pytest.fixture(scope="session")
def full_size_shapes() -> Callable[[dict[str, Any], str], Shapes]:
    """Keys and shapes of a released checkpoint from its language model's configuration and family."""
    return lambda text, family: official_shapes(text, family, CLIP_L, CONVNEXT_L)


@pytest.fixture(scope="session")
def raw_shapes() -> dict[str, Shapes]:
    """Keys and shapes of the tiny towers as CLIP and open_clip store them."""
    return {
        "clip": {f"vision_model.{key}": shape for key, shape in clip_shapes(TINY_CLIP).items()},
        "open_clip": convnext_shapes(CONVNEXT_L, "visual.trunk.stem", "visual.trunk.stages"),
    }


@pytest.fixture
def tiny_config(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A flat config.json in the authors' layout; the towers are named by folders that hold their sizes."""
    for name, content in (("my-vit", TINY_CLIP), ("my-net", TINY_CONVNEXT)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content), encoding="utf-8")

    def make(family: str = "llama", **changes: Any) -> dict[str, Any]:
        experts = {"num_local_experts": 4, "num_experts_per_tok": 2} if family == "mixtral" else {}
        return {
            "architectures": [ARCHITECTURES[family]],
            "torch_dtype": "float32",
            **TINY_TEXT,
            **experts,
            "mm_vision_tower": str(tmp_path / "my-vit"),
            "mm_vision_tower_aux": str(tmp_path / "my-net"),
            "mm_projector_type": "mlp2x_gelu",
            "mm_vision_select_layer": -2,
            "mm_vision_select_feature": "patch",
            "mm_use_im_start_end": False,
            "mm_hidden_size": 16,
            "mm_hidden_size_aux": 40,
            "image_size_aux": 64,
            "image_aspect_ratio": "pad",
            "tune_mm_mlp_adapter": False,
            "video_grid": -1,
            **changes,
        }

    return make


@pytest.fixture
def tiny_tensors() -> Callable[..., dict[str, torch.Tensor]]:
    """Random tensors for `tiny_config`, by the authors' names."""

    def make(family: str = "llama", dtype: torch.dtype = torch.float32, **text: Any) -> dict[str, torch.Tensor]:
        sizes = {**TINY_TEXT, "num_local_experts": 4, **text}
        shapes = official_shapes(sizes, family, TINY_CLIP, TINY_CONVNEXT)
        return {key: (torch.randn(shape) * 0.2).to(dtype) for key, shape in shapes.items()}

    return make
