"""Encoders of pictures: what a character looks like, and what style a picture has.

`nano`, for drawn pictures, works offline. `open_clip:MODEL:WEIGHTS` and `hf:FOLDER` take any model of open_clip and of
transformers. A style is the mean and the spread of a layer's channels over the picture (Huang and Belongie, 2017); this
is not the CSD model of ViStoryBench, so a style score is not comparable with its published ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from mgem_agent.errors import InputError
from mgem_agent.user_files import user_path

__all__ = ["OFFICIAL_ENCODER", "PictureEncoder", "make_encoder"]

OFFICIAL_ENCODER = "hf:openai/clip-vit-large-patch14"
"""ViStoryBench's encoder of characters that are not realistic humans."""

_AT_ONCE = 32
_SHARPNESS = 3.0
_BLANKS = ("white", "lightgrey", "grey", "lightblue", "lightgreen", "khaki", "pink")
"""Plain pictures; what they have in common says nothing about a character."""

_FORMS = "'nano', 'open_clip:ViT-B-32:laion2b_s34b_b79k' (or a file of weights), 'hf:openai/clip-vit-large-patch14'"


@dataclass(frozen=True)
class PictureEncoder:
    """Encodes pictures.

    Attributes:
        name: Its name.
        embed: Returns the features (b, d) and the tokens of a middle layer (b, n, c) of pictures.
    """

    name: str
    embed: Callable[[Sequence[Image.Image]], tuple[Tensor, Tensor]]

    @torch.inference_mode()
    def contents(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the features (b, d) of pictures, each of length 1."""
        return _in_batches(pictures, lambda some: self.embed(some)[0])

    @torch.inference_mode()
    def styles(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the styles (b, 2c) of pictures, each of length 1."""

        def style(some: Sequence[Image.Image]) -> Tensor:
            tokens = self.embed(some)[1]
            return torch.cat((tokens.mean(1), tokens.std(1)), -1)

        return _in_batches(pictures, style)


def make_encoder(name: str) -> PictureEncoder:
    """Load an encoder.

    Args:
        name: `nano`, `open_clip:MODEL:WEIGHTS` or `hf:FOLDER`.

    Raises:
        InputError: If there is no such encoder, or it cannot be read.
    """
    kind, _, rest = name.partition(":")
    try:
        if name == "nano":
            return PictureEncoder(name, _nano())
        if kind == "open_clip" and rest:
            return PictureEncoder(name, _open_clip(*rest.split(":", 1)))
        if kind == "hf" and rest:
            return PictureEncoder(name, _transformers(rest))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"The encoder {name!r} cannot be loaded: {str(error).splitlines()[0]}.") from error
    raise InputError(f"There is no encoder {name!r}. Allowed: {_FORMS}.")


def _in_batches(pictures: Sequence[Image.Image], embed: Callable[[Sequence[Image.Image]], Tensor]) -> Tensor:
    rows = [embed(pictures[start : start + _AT_ONCE]) for start in range(0, len(pictures), _AT_ONCE)]
    return F.normalize(torch.cat(rows).float(), dim=-1)


def _pixels(pictures: Sequence[Image.Image], size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return pictures as (b, 3, size, size); each is padded to a square with its edge colour, so nothing is cut off."""
    rows = []
    for picture in pictures:
        side = max(picture.size)
        square = Image.new("RGB", (side, side), picture.convert("RGB").getpixel((0, 0)))
        square.paste(picture.convert("RGB"), ((side - picture.width) // 2, (side - picture.height) // 2))
        rows.append(transforms.pil_to_tensor(square.resize((size, size), Image.Resampling.BICUBIC)))
    return transforms.normalize(torch.stack(rows).float() / 255, list(mean), list(std))


def _nano() -> Callable[[Sequence[Image.Image]], tuple[Tensor, Tensor]]:
    """Return nano's low-resolution encoder, whose weights ship with the package."""
    from safetensors.torch import load_file
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from mgem_agent.core_model import MiniGeminiConfig
    from mgem_agent.nano.vision_language import VLM_WEIGHTS

    settings: Any = MiniGeminiConfig.from_pretrained(VLM_WEIGHTS).vision_config
    tower = CLIPVisionModel(CLIPVisionConfig.from_dict(settings.to_dict())).eval()
    prefix = "model.vision_tower."
    weights = load_file(VLM_WEIGHTS / "model.safetensors")
    own = {name.removeprefix(prefix): value.float() for name, value in weights.items() if name.startswith(prefix)}
    tower.load_state_dict(own, strict=False)

    def layers(pictures: Sequence[Image.Image]) -> Sequence[Tensor]:
        pixels = _pixels(pictures, settings.image_size, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
        made: Any = tower(pixel_values=pixels, output_hidden_states=True)
        return [each[:, 1:] for each in made.hidden_states]

    with torch.inference_mode():
        blanks = layers([Image.new("RGB", (8, 8), colour) for colour in _BLANKS])
        blank = _normed(blanks[-1]).mean((0, 1))

    def embed(pictures: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        found = layers(pictures)
        return _subject(_normed(found[-1])) - blank, found[1]

    return embed


def _open_clip(model: str, weights: str = "") -> Callable[[Sequence[Image.Image]], tuple[Tensor, Tensor]]:
    import open_clip

    loaded: Any = open_clip.create_model_and_transforms(model, pretrained=weights or None)
    clip, prepare = loaded[0].eval(), loaded[2]
    visual: Any = clip.visual

    def embed(pictures: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        pixels = torch.stack([prepare(picture.convert("RGB")) for picture in pictures])
        layers: Any = visual.forward_intermediates(pixels, output_fmt="NLC", normalize_intermediates=False)
        middle = layers["image_intermediates"]
        return clip.encode_image(pixels), middle[len(middle) // 2]

    return embed


def _transformers(name: str) -> Callable[[Sequence[Image.Image]], tuple[Tensor, Tensor]]:
    from transformers import AutoImageProcessor, AutoModel

    source = str(user_path(name)) if user_path(name).is_dir() else name
    model: Any = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    tower: Any = getattr(model, "vision_model", model)
    prepare: Any = AutoImageProcessor.from_pretrained(source)

    def embed(pictures: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        pixels = prepare([picture.convert("RGB") for picture in pictures], return_tensors="pt")["pixel_values"]
        if hasattr(model, "get_image_features"):
            features: Any = model.get_image_features(pixel_values=pixels)
            features = getattr(features, "pooler_output", features)
        else:
            made: Any = model(pixel_values=pixels)
            features = made.pooler_output if made.get("pooler_output") is not None else made.last_hidden_state.mean(1)
        layers: Any = tower(pixel_values=pixels, output_hidden_states=True).hidden_states
        middle = layers[len(layers) // 2]
        return features, middle if middle.dim() == 3 else middle.flatten(2).transpose(1, 2)

    return embed


def _normed(tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:])


def _subject(tokens: Tensor) -> Tensor:
    """Return the mean (b, c) of tokens (b, n, c) of a square, weighted by how much each differs from the border's."""
    side = math.isqrt(tokens.shape[1])
    border = torch.zeros(side, side, dtype=torch.bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    differs = (tokens - tokens[:, border.flatten()].mean(1, keepdim=True)).norm(dim=-1)
    weights = (_SHARPNESS * differs / differs.mean(1, keepdim=True).clamp(min=1e-6)).softmax(1)
    return (tokens * weights[..., None]).sum(1)
