"""The weight files of a folder and their content, read from the headers alone.

A safetensors file begins with the names, types, shapes and offsets of its tensors; a `.bin` file is mapped and
unpickled without its tensors' bytes. Only tensors are ever unpickled: a file that would run code is refused.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mgem_agent.errors import CheckpointError

__all__ = ["TensorHeader", "find_weight_files", "open_tensors", "read_headers", "read_json"]

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

_WHOLE_NAMES = ("model.safetensors", "pytorch_model.bin")
_INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class TensorHeader:
    """One tensor of a file, without its values.

    Args:
        shape: Its shape.
        dtype: Its data type.
        file: The file that holds it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path

    @property
    def num_elements(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Size of its elements in bytes."""
        return self.num_elements * self.dtype.itemsize


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: If the file is missing, is not JSON, or holds anything but an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no {file.name!r} in {str(file.parent)!r}.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(file)!r} cannot be read as JSON: {error}. Download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{str(file)!r} must hold a JSON object, got {type(content).__name__}. Download it again."
        )
    return content


def _with_variant(name: str, variant: str | None) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{variant}.{ending}" if variant else name


def find_weight_files(folder: Path, *, variant: str | None = None, use_safetensors: bool | None = None) -> list[Path]:
    """Return the weight files that transformers would load from a folder; some of them may not exist.

    Safetensors take precedence over `.bin`, and a single file over the shards that an index names.

    Args:
        folder: The checkpoint.
        variant: Middle part of the files' names, such as ``fp16``.
        use_safetensors: Allow only safetensors (true) or only `.bin` (false).

    Raises:
        CheckpointError: If there are none, or the index is malformed.
    """
    names: list[str] = []
    for position, wanted in ((0, True), (1, False)):
        if use_safetensors in (None, wanted):
            whole = folder / _with_variant(_WHOLE_NAMES[position], variant)
            index = folder / _with_variant(_INDEX_NAMES[position], variant)
            if whole.is_file():
                return [whole]
            if index.is_file():
                return _indexed_files(index)
            names += [whole.name, index.name]
    raise CheckpointError(f"There are no weights in {str(folder)!r}: none of {', '.join(names)}.")


def _indexed_files(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{str(index)!r} has no 'weight_map' of keys to files. Download it again.")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(
                f"{str(index)!r} names {name!r}, which is not a file in the same folder. Do not use this folder."
            )
    return [index.parent / name for name in names]


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn any error from reading a broken file into a `CheckpointError`."""
    try:
        if not file.exists():
            raise CheckpointError(f"The weight file {file.name!r} is missing from {str(file.parent)!r}. Download it.")
        if file.stat().st_size == 0:
            raise CheckpointError(f"The weight file {str(file)!r} is empty. Download it again.")
        yield
    except (SafetensorError, EOFError, zipfile.BadZipFile, OSError, RuntimeError) as error:
        if "Cannot allocate memory" in str(error):
            raise CheckpointError(
                f"The weight file {str(file)!r} ({file.stat().st_size} bytes) is too large to be mapped on this "
                f"machine. Use a checkpoint in smaller shards, or a machine with more memory."
            ) from error
        raise CheckpointError(
            f"The weight file {str(file)!r} ({file.stat().st_size} bytes) is damaged or incomplete: {error}. "
            "Download it again."
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"The weight file {str(file)!r} contains objects other than tensors. Reading them could run code, so the "
            f"file is refused. Use a safetensors file from a source you trust."
        ) from error


def _load_bin(file: Path, device: str) -> dict[str, torch.Tensor]:
    is_zip = zipfile.is_zipfile(file)
    with file.open("rb") as start:
        if start.read(2) == b"PK" and not is_zip:
            raise zipfile.BadZipFile("its end is missing")
    content = torch.load(file, map_location=device, weights_only=True, mmap=is_zip)
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"The weight file {str(file)!r} is not a dictionary of tensors.")
    return content


def read_headers(file: Path) -> dict[str, TensorHeader]:
    """Read the names, shapes and types of a file's tensors, not their values.

    Raises:
        CheckpointError: If the file is missing, empty, truncated, or a pickle with objects other than tensors.
    """
    with _reading(file):
        if file.suffix != ".safetensors":
            return {
                key: TensorHeader(tuple(value.shape), value.dtype, file)
                for key, value in _load_bin(file, "meta").items()
            }
        headers = {}
        # "np" maps the file read-only; "pt" would reserve as much memory as the file has bytes.
        with safe_open(file, framework="np") as tensors:
            for key in tensors.keys():
                part = tensors.get_slice(key)
                dtype = _DTYPES.get(part.get_dtype())
                if dtype is None:
                    raise CheckpointError(
                        f"The tensor {key!r} of {str(file)!r} has an unknown type {part.get_dtype()!r}."
                    )
                headers[key] = TensorHeader(tuple(part.get_shape()), dtype, file)
        return headers


@contextmanager
def open_tensors(file: Path) -> Iterator[Any]:
    """Open a weight file to read its tensors one at a time with ``get_tensor(key)``.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    with ExitStack() as stack:
        with _reading(file):  # only for opening: the caller's own errors must pass unchanged
            if file.suffix == ".safetensors":
                tensors: Any = stack.enter_context(safe_open(file, framework="pt"))
            else:
                tensors = _MappedBin(_load_bin(file, "cpu"))
        yield tensors


class _MappedBin:
    """A `.bin` file with the one method of an open safetensors file that is used here."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def get_tensor(self, key: str) -> torch.Tensor:
        return self._tensors[key]
