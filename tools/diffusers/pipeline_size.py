"""What a pipeline takes in memory, part by part, from the headers of its files.

Nothing is loaded or downloaded: a hub id counts if it is in the local cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.errors import MgemError
from mgem_agent.tools.diffusers.loading import LARGE_PARTS, choose_device, choose_dtype
from mgem_agent.tools.diffusers.options import DiffusersOptions
from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from torch import nn

    from mgem_agent.core_model.checkpoints.files import TensorHeader

__all__ = ["find_modules", "largest_batch", "own_size_px", "pipeline_size"]

_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_DEFAULT_SIZE_PX = 1024
_TILE_PX = 512
_LIVE_MAPS = 4
"""Feature maps of full size that a VAE holds at once: the input, the normalised, the convolved and the shortcut."""
_BYTES_PER_WEIGHT = {8: 1.0, 4: 0.5625}
"""In 4 bits, 32 bits for each block of 64 weights come on top."""


def find_modules(pipeline: Any) -> dict[str, nn.Module]:
    """Return the parts of a pipeline that have weights, by name.

    Args:
        pipeline: The pipeline.
    """
    from torch import nn

    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def pipeline_size(model: str, options: DiffusersOptions) -> ModelSize | None:
    """Return what a pipeline needs on its device, with its options.

    Args:
        model: Folder or hub id.
        options: How it is loaded.

    Returns:
        The size; None if its files are not on this machine, or have no headers that can be read.
    """
    from mgem_agent.core_model.checkpoints.files import read_json

    folder = find_pipeline_folder(model, options)
    if folder is None:
        return None
    try:
        index = read_json(folder / "model_index.json")
        class_name = str(index.get("_class_name"))
        dtype = choose_dtype(options, choose_device(options), class_name)
        parts = {
            name: _part_bytes(folder / name, name, options, dtype.itemsize)
            for name, entry in index.items()
            if isinstance(entry, list) and entry and entry[0] is not None and (folder / name).is_dir()
        }
        working = _working_bytes(folder, options, dtype.itemsize)
    except MgemError:
        return None
    return _with_offload(ModelSize({name: size for name, size in parts.items() if size}, working), options)


def find_pipeline_folder(model: str, options: DiffusersOptions) -> Path | None:
    """Return the folder of a pipeline on this machine; None if a hub id is not in the cache.

    Args:
        model: Folder or hub id.
        options: Options with the revision.
    """
    folder = user_path(model)
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "model_index.json", revision=options.revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _part_bytes(folder: Path, name: str, options: DiffusersOptions, itemsize: int) -> int:
    """Return the bytes of a part's weights as they are loaded."""
    from mgem_agent.core_model.checkpoints.files import read_headers

    headers: dict[str, TensorHeader] = {}
    for file in _weight_files(folder, options.variant):
        headers |= read_headers(file)
    large = options.quantization is not None and name in LARGE_PARTS
    per_matrix = _BYTES_PER_WEIGHT[options.quantization or 8] if large else float(itemsize)
    return math.ceil(
        sum(
            header.num_elements * (per_matrix if len(header.shape) == 2 else itemsize)
            if header.dtype.is_floating_point
            else header.num_bytes
            for header in headers.values()
        )
    )


def _weight_files(folder: Path, variant: str | None) -> list[Path]:
    """Return the files that diffusers would load: safetensors first, and those of the variant, if there are any."""
    from mgem_agent.core_model.checkpoints.files import read_json

    for middle in dict.fromkeys((f".{variant}" if variant else "", "")):
        for ending in ("safetensors", "bin"):
            for stem in _STEMS:
                whole = folder / f"{stem}{middle}.{ending}"
                index = folder / f"{stem}.{ending}.index{middle}.json"
                if whole.is_file():
                    return [whole]
                if index.is_file():
                    names: Mapping[str, str] = read_json(index).get("weight_map") or {}
                    return [folder / Path(name).name for name in sorted(set(names.values()))]
    return []


def _working_bytes(folder: Path, options: DiffusersOptions, itemsize: int) -> int:
    """Estimate the memory of decoding, the largest of a drawing, for a picture of the model's own size."""
    from mgem_agent.core_model.checkpoints.files import read_json

    file = folder / "vae" / "config.json"
    if not file.is_file():
        return 0
    config = read_json(file)
    channels = config.get("block_out_channels") or config.get("encoder_block_out_channels") or [128, 256]
    size = _own_size(folder, 2 ** (len(channels) - 1))
    if options.vae_tiling:
        size = min(size, _TILE_PX)
    num_pictures = 1 if options.vae_slicing else options.batch_limit or 1
    return int(_LIVE_MAPS * channels[min(1, len(channels) - 1)] * size * size * itemsize * num_pictures)


def largest_batch(size: ModelSize, available: int, scale: float) -> int:
    """Return how many pictures are estimated to fit into memory at once.

    Args:
        size: What the pipeline needs for one picture of its own size.
        available: Bytes of the device for models.
        scale: Area of each picture, as a multiple of that size.
    """
    each = max(size.working_bytes * scale, 1.0)
    return max(1, int((available - size.weight_bytes) / each))


def own_size_px(model: str, options: DiffusersOptions) -> int:
    """Return the width of a picture whose size is not given, in pixels.

    Args:
        model: Folder or hub id.
        options: How it is loaded.
    """
    from mgem_agent.core_model.checkpoints.files import read_json

    folder = find_pipeline_folder(model, options)
    if folder is None or not (folder / "vae" / "config.json").is_file():
        return _DEFAULT_SIZE_PX
    channels = read_json(folder / "vae" / "config.json").get("block_out_channels") or [1] * 4
    return _own_size(folder, 2 ** (len(channels) - 1))


def _own_size(folder: Path, scale: int) -> int:
    """Return the width of a picture whose size is not given, in pixels."""
    from mgem_agent.core_model.checkpoints.files import read_json

    for name in ("unet", "transformer"):
        file = folder / name / "config.json"
        size = read_json(file).get("sample_size") if file.is_file() else None
        if isinstance(size, int):
            return size * scale
    return _DEFAULT_SIZE_PX


def _with_offload(size: ModelSize, options: DiffusersOptions) -> ModelSize:
    """Return what is on the device at once: of an offloaded pipeline its largest part, or a single layer."""
    if options.offload == "none" or not size.parts:
        return size
    if options.offload == "model":
        largest = max(size.parts, key=lambda name: size.parts[name])
        return ModelSize({largest: size.parts[largest]}, size.working_bytes)
    return ModelSize({}, size.working_bytes)
