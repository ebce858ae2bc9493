"""The high-resolution encoder: the trunk of open_clip's ConvNeXt, whose four stage maps are mining's candidates.

Only the stem and the stages are kept, under timm's parameter names, so that LAION's weights and those inside the
released checkpoints fit after a change of prefix. Nothing is up-sampled here: mining uses the original stage maps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from timm.layers import LayerNorm, LayerNorm2d
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from mgem_agent.core_model.configuration import HighResVisionConfig
from mgem_agent.core_model.geometry import FINEST_STRIDE
from mgem_agent.errors import CheckpointError, InputError

__all__ = ["HighResEncoder", "high_res_config_from_open_clip"]

_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TRUNK = "visual.trunk."


class HighResEncoder(nn.Module):
    """Stem and stages of a ConvNeXt.

    Args:
        config: Widths and depths of the stages.
    """

    def __init__(self, config: HighResVisionConfig) -> None:
        super().__init__()
        self.config = config
        trunk = ConvNeXt(
            in_chans=config.num_channels,
            num_classes=0,
            depths=tuple(config.depths),
            dims=tuple(config.hidden_sizes),
            patch_size=FINEST_STRIDE,
            ls_init_value=None,
            drop_path_rate=config.drop_path_rate,
            norm_eps=config.layer_norm_eps,
        )
        self.stem: Any = trunk.stem
        self.stages: Any = trunk.stages
        self._scale_layers()

    def _scale_layers(self) -> None:
        """Add the scales of the blocks. timm multiplies a tensor for each, which is slow on the meta device."""
        for stage, width in zip(self.stages, self.config.hidden_sizes, strict=True):
            for block in stage.blocks:
                block.gamma = nn.Parameter(nn.init.constant_(torch.empty(width), self.config.layer_scale_init_value))

    def forward(self, high_res_pixel_values: Tensor) -> list[Tensor]:
        """Return the stage maps of normalised images.

        Args:
            high_res_pixel_values: (b, 3, H, H).

        Returns:
            One map (b, c_s, H/4/2^s, H/4/2^s) for each stage s, finest first.
        """
        # Depthwise convolutions and the LayerNorms between them are fastest with channels last.
        pixels = high_res_pixel_values.to(dtype=self.stem[0].weight.dtype, memory_format=torch.channels_last)
        features = self.stem(pixels)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps

    def compile_forward(self) -> None:
        """Compile the forward pass with `torch.compile`. The first picture then takes up to a minute longer."""
        self.__dict__["forward"] = torch.compile(self.forward)

    @classmethod
    def from_open_clip(
        cls, source: str | Path, *, dtype: torch.dtype | None = None, **hub_options: Any
    ) -> HighResEncoder:
        """Load the trunk from raw open_clip weights, such as LAION's.

        Args:
            source: Folder or hub id that holds `open_clip_config.json` and `open_clip_model.safetensors` or
                `open_clip_pytorch_model.bin`.
            dtype: Data type of the parameters; that of the file by default.
            **hub_options: Passed to `huggingface_hub.snapshot_download` (revision, cache_dir, token, ...).

        Raises:
            CheckpointError: If a file is missing or the weights do not fit the ConvNeXt that the configuration names.
        """
        folder = Path(source)
        if not folder.is_dir():
            folder = Path(
                snapshot_download(str(source), allow_patterns=["open_clip_config.json", *_WEIGHT_FILES], **hub_options)
            )
        config_file = folder / "open_clip_config.json"
        weight_file = next((folder / name for name in _WEIGHT_FILES if (folder / name).is_file()), None)
        if not config_file.is_file() or weight_file is None:
            raise CheckpointError(
                f"{str(folder)!r} is not an open_clip folder: it must hold open_clip_config.json and one of "
                f"{', '.join(_WEIGHT_FILES)}."
            )
        encoder = cls(high_res_config_from_open_clip(json.loads(config_file.read_text(encoding="utf-8"))["model_cfg"]))
        weights = _read(weight_file)
        trunk = {key.removeprefix(_TRUNK): value for key, value in weights.items() if key.startswith(_TRUNK)}
        kept = {
            # timm's small ConvNeXts store their linear layers as 1×1 convolutions.
            key: value.flatten(1) if key.endswith((".mlp.fc1.weight", ".mlp.fc2.weight")) else value
            for key, value in trunk.items()
            if key.startswith(("stem.", "stages."))
        }
        own = encoder.state_dict()
        shapes = {key: (tuple(kept[key].shape), tuple(own[key].shape)) for key in kept.keys() & own.keys()}
        wrong = sorted(f"{key}: {got}, needed {needed}" for key, (got, needed) in shapes.items() if got != needed)
        missing, unexpected = sorted(own.keys() - kept.keys()), sorted(kept.keys() - own.keys())
        if missing or unexpected or wrong:
            raise CheckpointError(
                f"{str(weight_file)!r} does not hold the ConvNeXt that open_clip_config.json describes.",
                missing=missing,
                unexpected=unexpected,
                mismatched=wrong,
            )
        encoder.load_state_dict(kept)
        return encoder.to(dtype or next(iter(kept.values())).dtype)


def _read(weight_file: Path) -> dict[str, Tensor]:
    if weight_file.suffix == ".safetensors":
        return load_file(weight_file)
    stored = torch.load(weight_file, map_location="cpu", weights_only=True)
    weights: dict[str, Tensor] = stored.get("state_dict", stored)
    return weights


def high_res_config_from_open_clip(model: str | dict[str, Any]) -> HighResVisionConfig:
    """Return the configuration of the ConvNeXt in one of open_clip's models.

    Args:
        model: Name of an open_clip model (`convnext_base_w_320`, `convnext_large_d_320`, `convnext_xxlarge`, ...), or
            its configuration in the form of `open_clip_config.json`.

    Raises:
        InputError: If open_clip has no such model or its vision tower is not a ConvNeXt.
    """
    import open_clip  # only new models need its registry; loading does not

    model_config = open_clip.get_model_config(model) if isinstance(model, str) else model
    vision = (model_config or {}).get("vision_cfg", {})
    name = vision.get("timm_model_name", "")
    if "convnext" not in name:
        known = ", ".join(known for known in open_clip.list_models() if known.startswith("convnext"))
        raise InputError(f"{model!r} is not an open_clip model with a ConvNeXt. Known: {known}.")
    with torch.device("meta"):
        trunk: Any = timm.create_model(name, pretrained=False, num_classes=0)
    return HighResVisionConfig(
        hidden_sizes=[stage["num_chs"] for stage in trunk.feature_info],
        depths=[len(stage.blocks) for stage in trunk.stages],
        layer_norm_eps=next(m.eps for m in trunk.stages.modules() if isinstance(m, (LayerNorm, LayerNorm2d))),
        drop_path_rate=vision.get("timm_drop_path") or 0.0,
        image_size=vision.get("image_size", 224),
    )
