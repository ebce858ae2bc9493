"""Full-size towers with real tensors and a language model of two layers, against straightforward independent code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.checkpoints.released import official_config

TEXT = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 500,
}


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Random weights at which signals neither vanish nor blow up."""
    tensors = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape)
        if key.endswith(".gamma"):
            tensor = 0.5 + 0.1 * noise
        elif key.endswith("bias"):
            tensor = 0.02 * noise
        elif len(shape) == 1:
            tensor = 1 + 0.1 * noise if "class_embedding" not in key else 0.1 * noise
        else:
            tensor = noise * torch.Size(shape[1:]).numel() ** -0.5
        tensors[key] = tensor.bfloat16()
    return tensors


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value.float() for key, value in tensors.items() if key.startswith(prefix)}


def mined(query: Tensor, candidates: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Patch info mining in its textbook form: query (1, n², c), candidates (1, a, H/4, H/4)."""

    def project(name: str, value: Tensor) -> Tensor:
        weights = part(tensors, f"model.vlm_uni_{name}_projector.")
        normalised = F.layer_norm(value, value.shape[-1:], weights["0.weight"], weights["0.bias"])
        return F.linear(normalised, weights["1.weight"], weights["1.bias"])

    side = int(query.shape[1] ** 0.5)
    windows = candidates.unfold(2, candidates.shape[2] // side, candidates.shape[2] // side)
    windows = windows.unfold(3, candidates.shape[3] // side, candidates.shape[3] // side)  # (1, a, n, n, M, M)
    windows = windows.permute(0, 2, 3, 4, 5, 1).flatten(3, 4).flatten(1, 2)  # (1, n², M², a)
    keys, values = project("aux", windows), project("val", windows)
    scores = (keys @ project("query", query).unsqueeze(-1)).squeeze(-1) / query.shape[-1] ** 0.5
    return query + (scores.softmax(-1).unsqueeze(-1) * values).sum(-2)


def reference_tokens(pixels: Tensor, high_res: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Visual tokens of one image, (1, 576, hidden size)."""
    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    clip = CLIPVisionModel(config).eval()
    clip.load_state_dict(part(tensors, "model.vision_tower.vision_tower.vision_model."))
    query = clip(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]

    trunk: Any = timm.create_model("convnext_large", pretrained=False, num_classes=0).eval()
    trunk.stem.load_state_dict(part(tensors, "model.vision_tower_aux.vision_stem."))
    trunk.stages.load_state_dict(part(tensors, "model.vision_tower_aux.vision_stages."))
    features, maps = trunk.stem(high_res), []
    for stage in trunk.stages:
        features = stage(features)
        maps.append(features)
    candidates = torch.cat([F.interpolate(m, maps[0].shape[2:], mode="bilinear", align_corners=False) for m in maps], 1)

    weights = part(tensors, "model.mm_projector.")
    hidden = F.gelu(F.linear(mined(query, candidates, tensors), weights["0.weight"], weights["0.bias"]))
    return F.linear(hidden, weights["2.weight"], weights["2.bias"])


@pytest.mark.slow
def test_full_size_towers_give_what_independent_code_gives(folder: Any, full_size_shapes: Callable[..., Any]) -> None:
    tensors = random_tensors(full_size_shapes(TEXT, "llama"))
    folder.write_config({**official_config("MGM-7B"), **TEXT})
    folder.write(tensors, num_shards=2)
    model = MiniGeminiForConditionalGeneration.from_pretrained(folder.path, dtype=torch.float32)

    pixels, high_res = torch.randn(1, 3, 336, 336), torch.randn(1, 3, 768, 768)
    text = torch.tensor([[1, 17, 230]])
    with torch.no_grad():
        tokens = reference_tokens(pixels, high_res, tensors)
        (found,) = model.get_image_features(pixels, high_res).pooler_output
        torch.testing.assert_close(found, tokens[0], rtol=1e-3, atol=1e-3 * tokens.std().item())

        llm = LlamaForCausalLM(LlamaConfig(**TEXT, rms_norm_eps=1e-5)).eval()
        llm.load_state_dict({key: tensors[key].float() for key in llm.state_dict()})
        embedded = llm.get_input_embeddings()(text)
        expected = llm(inputs_embeds=torch.cat([embedded[:, :1], tokens, embedded[:, 1:]], 1)).logits
        prompt = torch.tensor([[1] + [500] * 576 + [17, 230]])
        logits = model(input_ids=prompt, pixel_values=pixels, high_res_pixel_values=high_res).logits
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3 * expected.std().item())
