"""The names and shapes that a checkpoint must hold, taken from the model built on torch's meta device."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import CLIPVisionConfig, CLIPVisionModel

from mgem_agent.core_model.checkpoints.keys import is_harmless_leftover, split_experts, to_official_key
from mgem_agent.core_model.configuration import HighResVisionConfig, MiniGeminiConfig
from mgem_agent.core_model.high_res_encoder import HighResEncoder
from mgem_agent.core_model.modeling import MiniGeminiModel
from mgem_agent.meta_device import meta_device

__all__ = ["Differences", "compare", "expected_clip", "expected_model", "expected_trunk"]

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Differences:
    """How the tensors of a checkpoint differ from those of the model.

    Args:
        missing: Names that the model needs and the checkpoint lacks.
        unexpected: Names that the model does not have.
        mismatched: Names whose shape differs, each with both shapes.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()


def _shapes(module: Any) -> Shapes:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def expected_model(config: MiniGeminiConfig, *, official: bool, split: bool) -> Shapes:
    """Return the names and shapes of a complete model.

    Args:
        config: Its configuration.
        official: Whether to use the authors' names.
        split: Whether Mixtral's experts are one tensor each, as in published files.
    """
    with meta_device():
        trunk = _shapes(MiniGeminiModel(config))
    shapes = {f"model.{key}": shape for key, shape in trunk.items()}
    shapes["lm_head.weight"] = (config.text_config.vocab_size, config.text_config.hidden_size)
    if split and config.text_config.model_type == "mixtral":
        shapes = split_experts(shapes)
    return {to_official_key(key): shape for key, shape in shapes.items()} if official else shapes


def expected_clip(config: dict[str, Any]) -> Shapes:
    """Return the names and shapes of a raw CLIP vision tower, without the prefix ``vision_model.``.

    Args:
        config: Content of its `config.json`, for the full CLIP or for the vision tower alone.
    """
    with meta_device():
        return _shapes(CLIPVisionModel(CLIPVisionConfig(**config.get("vision_config", config))))


def expected_trunk(config: dict[str, Any]) -> Shapes:
    """Return the names and shapes of a ConvNeXt's stem and stages.

    Args:
        config: Keyword arguments of [`HighResVisionConfig`].
    """
    with meta_device():
        return _shapes(HighResEncoder(HighResVisionConfig(**config)))


def compare(found: Mapping[str, tuple[int, ...]], expected: Shapes, *, optional: Collection[str] = ()) -> Differences:
    """Compare what a checkpoint holds with what the model needs.

    Args:
        found: Shape of each tensor of the checkpoint.
        expected: Shape of each tensor of the model.
        optional: Names that may be missing, such as a head that is tied to the embedding.
    """
    return Differences(
        missing=tuple(sorted(expected.keys() - found.keys() - set(optional))),
        unexpected=tuple(sorted(key for key in found.keys() - expected.keys() if not is_harmless_leftover(key))),
        mismatched=tuple(
            f"{key}: {found[key]} in the checkpoint, {expected[key]} in the model"
            for key in sorted(expected.keys() & found.keys())
            if found[key] != expected[key]
        ),
    )
