"""FID, KID, IS and CLIP-Score by torchmetrics.

With `inception` (the features of all published values), torchmetrics loads InceptionV3 by the package torch-fidelity,
from a file or once from the network. With another encoder, FID and KID work offline and are not comparable with
published values; IS needs Inception's classes and is left out. CLIP-Score takes any CLIP model of transformers; a small
wrapper gives torchmetrics 1.9 the features of transformers 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError
from mgem_agent.extras import require_packages
from mgem_agent.recipes.eval.story.encoders import PictureEncoder
from mgem_agent.user_files import user_path

__all__ = ["INCEPTION", "Fidelity", "measure_clip_score", "measure_fidelity"]

INCEPTION = "inception"

_AT_ONCE = 32
_SIZE_PX = 299
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_KID_SUBSET = 1000
Progress = Callable[[int, int], None]


class Fidelity(BaseModel):
    """Distances of drawn pictures to real ones.

    Attributes:
        features: `inception`, or the encoder.
        fid: Fréchet distance.
        kid: Kernel distance, mean over subsets.
        kid_std: Its standard deviation.
        inception_score: Inception score; None for other features.
        num_drawn: Number of drawn pictures.
        num_real: Number of real pictures.
    """

    model_config = ConfigDict(frozen=True)

    features: str
    fid: float
    kid: float
    kid_std: float
    inception_score: float | None
    num_drawn: int
    num_real: int


class _Features(nn.Module):
    """An encoder as the feature extractor of torchmetrics.

    Args:
        encoder: The encoder.
    """

    def __init__(self, encoder: PictureEncoder) -> None:
        super().__init__()
        self._encoder = encoder
        self.num_features = int(encoder.contents([Image.new("RGB", (_SIZE_PX, _SIZE_PX))]).shape[1])

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features (b, d) of pictures (b, 3, h, w) of bytes."""
        return self._encoder.contents([transforms.to_pil_image(picture) for picture in pixels])


@torch.inference_mode()
def measure_fidelity(
    drawn: Sequence[Path],
    real: Path,
    encoder: PictureEncoder | None,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    report: Progress = lambda done, total: None,
) -> Fidelity:
    """Compare drawn pictures with real ones.

    Args:
        drawn: The drawn pictures.
        real: Folder of real pictures.
        encoder: The features; None for Inception.
        weights: File of Inception's weights (`weights-inception-2015-12-05-6726825d.pth`); None to download them.
        device: The device.
        report: Called with the number of pictures done and the total.

    Raises:
        InputError: If there are fewer than two pictures of a kind.
        MissingDependencyError: If torchmetrics is not installed.
    """
    needed = ("torchmetrics", "torch_fidelity") if encoder is None else ("torchmetrics",)
    require_packages("FID", *needed)
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    others = sorted(path for path in real.rglob("*") if path.suffix.lower() in _PICTURES)
    if min(len(drawn), len(others)) < 2:
        raise InputError(f"FID needs two pictures or more of each kind, got {len(drawn)} drawn and {len(others)} real.")
    feature: Any = _inception("2048", weights) if encoder is None else _Features(encoder)
    subset = min(_KID_SUBSET, len(drawn), len(others))
    fid = FrechetInceptionDistance(feature).to(device)
    kid = KernelInceptionDistance(feature, subset_size=subset).to(device)
    score = InceptionScore(_inception("logits_unbiased", weights)).to(device) if encoder is None else None
    total, done = len(drawn) + len(others), 0
    for files, is_real in ((drawn, False), (others, True)):
        for pixels in _batches(files):
            shown = pixels.to(device)
            fid.update(shown, real=is_real)
            kid.update(shown, real=is_real)
            if score is not None and not is_real:
                score.update(shown)
            done += len(pixels)
            report(done, total)
    mean, spread = kid.compute()
    return Fidelity(
        features=INCEPTION if encoder is None else encoder.name,
        fid=float(fid.compute()),
        kid=float(mean),
        kid_std=float(spread),
        inception_score=None if score is None else float(score.compute()[0]),
        num_drawn=len(drawn),
        num_real=len(others),
    )


@torch.inference_mode()
def measure_clip_score(
    files: Sequence[Path],
    captions: Sequence[str],
    model: str,
    *,
    device: str = "cpu",
    report: Progress = lambda done, total: None,
) -> float:
    """Return CLIP-Score (Hessel et al., 2021): 100 times the mean cosine of pictures and captions, cut at 0.

    Args:
        files: The pictures.
        captions: A caption for each.
        model: Folder or hub id of a CLIP model of transformers.
        device: The device.
        report: Called with the number of pictures done and the total.

    Raises:
        InputError: If the model cannot be read.
        MissingDependencyError: If torchmetrics is not installed.
    """
    require_packages("CLIP-Score", "torchmetrics")
    from torchmetrics.multimodal.clip_score import CLIPScore

    metric = CLIPScore(model_name_or_path=lambda: _clip(model)).to(device)
    for start in range(0, len(files), _AT_ONCE):
        some = files[start : start + _AT_ONCE]
        pictures: Any = [transforms.pil_to_tensor(load_image(file)).to(device) for file in some]
        metric.update(pictures, list(captions[start : start + _AT_ONCE]))
        report(start + len(some), len(files))
    return float(metric.compute())


def _inception(layer: str, weights: Path | None) -> nn.Module:
    """Return a layer of InceptionV3 as a feature extractor; only FID's own argument takes a file of weights."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = None if weights is None else str(weights)
    made: nn.Module = NoTrainInceptionV3(
        name="inception-v3-compat", features_list=[layer], feature_extractor_weights_path=path
    )
    return made


class _ClipFeatures(nn.Module):
    """A CLIP model of transformers 5, whose features torchmetrics 1.9 expects as objects or as tensors.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.model.parameters()).device

    def get_image_features(self, *args: Any, **kwargs: Any) -> Any:
        """Return the features of pictures."""
        return _tensor(self.model.get_image_features(*args, **kwargs))

    def get_text_features(self, *args: Any, **kwargs: Any) -> Any:
        """Return the features of texts."""
        return _tensor(self.model.get_text_features(*args, **kwargs))


def _tensor(features: Any) -> Tensor:
    found: Tensor = getattr(features, "pooler_output", features)
    return found


def _clip(name: str) -> tuple[Any, Any]:
    from transformers import AutoProcessor, CLIPModel

    source = str(user_path(name)) if user_path(name).is_dir() else name
    try:
        return _ClipFeatures(CLIPModel.from_pretrained(source).eval()), AutoProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise InputError(
            f"No CLIP model can be read from {name!r}: {str(error).splitlines()[0]}. Give a folder of transformers' "
            "CLIPModel with its processor, or a hub id."
        ) from error


def _batches(files: Sequence[Path]) -> Iterator[Tensor]:
    """Yield pictures as bytes (b, 3, 299, 299), in the size that Inception takes."""
    for start in range(0, len(files), _AT_ONCE):
        pictures = [
            load_image(file).resize((_SIZE_PX, _SIZE_PX), Image.Resampling.BICUBIC)
            for file in files[start : start + _AT_ONCE]
        ]
        yield torch.stack([transforms.pil_to_tensor(picture) for picture in pictures])
