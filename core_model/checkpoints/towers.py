"""The vision encoders that the authors' configurations name by folder, with their configurations.

A released ``config.json`` gives the folders of its encoders on the authors' disks (``model_zoo/OpenAI/…``), not their
sizes. The weights are in the checkpoint, so only the sizes are needed. They are listed here; nothing is downloaded. For
an unknown name, the folder is read if it exists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgem_agent.errors import CheckpointError

__all__ = ["convnext_config", "high_res_tower_config", "vision_tower_config"]


def _vit(width: int, layers: int, image_size: int, patch_size: int, projection_dim: int) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "image_size": image_size,
        "patch_size": patch_size,
        "projection_dim": projection_dim,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }


_CLIP: Mapping[str, tuple[str, dict[str, Any]]] = {
    "clip-vit-large-patch14-336": ("openai/clip-vit-large-patch14-336", _vit(1024, 24, 336, 14, 768)),
    "clip-vit-large-patch14": ("openai/clip-vit-large-patch14", _vit(1024, 24, 224, 14, 768)),
    "clip-vit-base-patch16": ("openai/clip-vit-base-patch16", _vit(768, 12, 224, 16, 512)),
    "clip-vit-base-patch32": ("openai/clip-vit-base-patch32", _vit(768, 12, 224, 32, 512)),
}

# All parts must occur in the folder's name, as in the authors' code.
_CONVNEXT: Mapping[tuple[str, ...], tuple[str, str]] = {
    ("convnext", "large", "d-320"): ("laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup", "convnext_large"),
    ("convnext", "base", "w-320"): ("laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K", "convnext_base"),
    ("convnext", "xxlarge"): ("laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup", "convnext_xxlarge"),
}

_TIMM_CONVNEXT: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], float]] = {
    "convnext_tiny": ((96, 192, 384, 768), (3, 3, 9, 3), 1e-6),
    "convnext_small": ((96, 192, 384, 768), (3, 3, 27, 3), 1e-6),
    "convnext_base": ((128, 256, 512, 1024), (3, 3, 27, 3), 1e-6),
    "convnext_large": ((192, 384, 768, 1536), (3, 3, 27, 3), 1e-6),
    "convnext_xlarge": ((256, 512, 1024, 2048), (3, 3, 27, 3), 1e-6),
    "convnext_xxlarge": ((384, 768, 1536, 3072), (3, 4, 30, 3), 1e-5),
}


def _folder_name(path: str) -> str:
    """The last part of a path or hub id, in lower case, with uniform separators."""
    name = path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower().replace("_", "-")
    return name.removeprefix("openai-")


def _convnext_entry(path: str) -> tuple[str, str] | None:
    name = _folder_name(path)
    return next((entry for marks, entry in _CONVNEXT.items() if all(mark in name for mark in marks)), None)


def tower_hub_id(path: str) -> str | None:
    """Hub id of the encoder in a folder of the authors' ``model_zoo``; None if unknown.

    Args:
        path: The value in the configuration, such as ``model_zoo/OpenAI/clip-vit-large-patch14-336``.

    Examples:
        >>> tower_hub_id("model_zoo/OpenAI/openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup")
        'laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup'
    """
    entry = _CLIP.get(_folder_name(path)) or _convnext_entry(path)
    return entry[0] if entry else None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The configuration {str(file)!r} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"The configuration {str(file)!r} must hold a JSON object, got {type(content).__name__}.")
    return content


def vision_tower_config(path: str) -> dict[str, Any]:
    """Configuration of the low-resolution encoder, as `CLIPVisionConfig` takes it.

    Args:
        path: The authors' ``mm_vision_tower``: a known folder name or hub id, or an existing folder.

    Raises:
        CheckpointError: If the encoder is unknown and there is no such folder.
    """
    known = _CLIP.get(_folder_name(path))
    if known:
        return dict(known[1])
    file = Path(path) / "config.json"
    if not file.is_file():
        raise CheckpointError(
            f"The low-resolution encoder {path!r} is not known, and there is no {str(file)!r} to read its sizes from. "
            f"Known: {', '.join(_CLIP)}. Put the encoder's config.json there, or name a known one in mm_vision_tower."
        )
    content = _read_json(file)
    vision = content.get("vision_config", content)
    if content.get("model_type") not in ("clip", "clip_vision_model") or not isinstance(vision, dict):
        raise CheckpointError(
            f"{str(file)!r} describes a {content.get('model_type')!r}; the low-resolution encoder must be a 'clip' or "
            f"'clip_vision_model'."
        )
    return {**vision, "model_type": "clip_vision_model"}


def convnext_config(timm_name: str) -> dict[str, Any]:
    """Sizes of a timm ConvNeXt, as [`HighResVisionConfig`] takes them.

    Args:
        timm_name: timm's name of the architecture, such as ``convnext_large``; a tag after a dot is ignored.

    Raises:
        CheckpointError: If it is not a plain ConvNeXt.
    """
    sizes = _TIMM_CONVNEXT.get(timm_name.split(".")[0])
    if sizes is None:
        raise CheckpointError(f"No ConvNeXt {timm_name!r}. Known: {', '.join(_TIMM_CONVNEXT)}.")
    hidden_sizes, depths, layer_norm_eps = sizes
    return {"hidden_sizes": list(hidden_sizes), "depths": list(depths), "layer_norm_eps": layer_norm_eps}


def high_res_tower_config(path: str) -> dict[str, Any]:
    """Configuration of the high-resolution encoder, as [`HighResVisionConfig`] takes it.

    Args:
        path: The authors' ``mm_vision_tower_aux``: a known folder name or hub id, or an existing open_clip folder.

    Raises:
        CheckpointError: If the encoder is unknown and there is no such folder, or it is not a ConvNeXt.
    """
    known = _convnext_entry(path)
    if known:
        return {**convnext_config(known[1]), "image_size": 256 if "xxlarge" in known[1] else 320}
    for name, read in (("open_clip_config.json", _from_open_clip), ("config.json", _from_transformers)):
        file = Path(path) / name
        if file.is_file():
            return read(file, _read_json(file))
    raise CheckpointError(
        f"The high-resolution encoder {path!r} is not known, and there is no "
        f"{str(Path(path) / 'open_clip_config.json')!r} "
        f"to read its sizes from. Known: names with {'; '.join(' and '.join(marks) for marks in _CONVNEXT)}. Put the "
        f"encoder's open_clip_config.json there, or name a known one in mm_vision_tower_aux."
    )


def _from_open_clip(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    vision = content.get("model_cfg", content).get("vision_cfg", {})
    config = convnext_config(str(vision.get("timm_model_name", "")))
    if isinstance(vision.get("image_size"), int):
        config["image_size"] = vision["image_size"]
    return config


def _from_transformers(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Sizes from a `ConvNextConfig` or from this library's own [`HighResVisionConfig`]."""
    sizes = ("hidden_sizes", "depths")
    if not all(isinstance(content.get(name), list) for name in sizes):
        raise CheckpointError(f"{str(file)!r} does not describe a ConvNeXt: it lacks the lists {' and '.join(sizes)}.")
    return {name: content[name] for name in (*sizes, "layer_norm_eps", "image_size") if name in content}
