"""Inspect a folder of weights: what it is, and whether it is complete, from headers alone.

Names, shapes and types come from the files' headers; the expected ones come from the model on the meta device. So even
a 34-billion-parameter checkpoint needs little time and memory. The report lists every problem.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mgem_agent.core_model.checkpoints.cache import find_folder
from mgem_agent.core_model.checkpoints.expected import (
    Differences,
    compare,
    expected_clip,
    expected_model,
    expected_trunk,
)
from mgem_agent.core_model.checkpoints.files import TensorHeader, find_weight_files, read_headers, read_json
from mgem_agent.core_model.checkpoints.official import is_official
from mgem_agent.core_model.checkpoints.soundness import (
    check_counts,
    check_files,
    read_config,
    read_config_dict,
    surplus,
)
from mgem_agent.core_model.checkpoints.towers import convnext_config
from mgem_agent.core_model.configuration import MiniGeminiConfig
from mgem_agent.core_model.geometry import VisualGeometry
from mgem_agent.core_model.tokenizer_loading import has_tokenizer_files
from mgem_agent.errors import CheckpointError, InputError

__all__ = ["CheckpointFormat", "CheckpointReport", "inspect_checkpoint"]

CheckpointFormat = Literal["ours", "official", "clip", "open_clip", "stage_1", "unknown"]
"""`ours` is what this library saves, `official` what the authors released, `stage_1` their projector and mining."""

_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_STAGE_1_FILE = "mm_projector.bin"


@dataclass(frozen=True)
class CheckpointReport:
    """The result of inspecting a folder of weights.

    Args:
        path: The folder.
        format: Its layout.
        family: Family of its language model, by transformers' name; None if it has no language model.
        prompt_template: Dialogue format; None if it has none.
        geometry: Its image sizes; None if it names none.
        num_parameters: Number of its parameters.
        num_bytes: Size of its parameters in bytes.
        dtypes: Number of tensors of each data type, by name.
        files: Names of its weight files.
        missing: Names, in the folder's layout, that the model needs and the folder lacks.
        unexpected: Names that the model does not have.
        mismatched: Names whose shape differs, each with both shapes.
        problems: Other problems, one sentence each.
        notes: Remarks that are not problems, one sentence each.
    """

    path: str
    format: CheckpointFormat
    family: str | None = None
    prompt_template: str | None = None
    geometry: VisualGeometry | None = None
    num_parameters: int = 0
    num_bytes: int = 0
    dtypes: dict[str, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all weights are present, have the right shape, and none is unexpected."""
        return self.format != "unknown" and not (self.missing or self.unexpected or self.mismatched or self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, including `whole`."""
        return {"is_complete": self.is_complete, **asdict(self)}


def inspect_checkpoint(path: str | Path) -> CheckpointReport:
    """Inspect a folder of weights and check that it is complete, without loading a tensor.

    Args:
        path: A folder, or a hub id that is in the local cache.

    Returns:
        The report. It lists the problems of the folder; they are not raised.

    Raises:
        CheckpointError: If there is no such folder.
    """
    folder = find_folder(path)
    try:
        return _inspect(folder)
    except InputError as error:
        return CheckpointReport(str(folder), "unknown", problems=(str(error),))


def _inspect(folder: Path) -> CheckpointReport:
    if (folder / "open_clip_config.json").is_file():
        return _inspect_open_clip(folder)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if is_official(config) or config.get("model_type") == MiniGeminiConfig.model_type:
        stage_1 = (folder / _STAGE_1_FILE).is_file() and not any(
            found for pattern in ("*.safetensors*", "pytorch_model*") for found in folder.glob(pattern)
        )
        return _inspect_stage_1(folder, config) if stage_1 else _inspect_model(folder, config)
    if config.get("model_type") in ("clip", "clip_vision_model"):
        return _inspect_clip(folder, config)
    if (folder / _STAGE_1_FILE).is_file():
        return _inspect_stage_1(folder, {})
    if config:
        raise CheckpointError(
            f"{str(folder)!r} holds a {config.get('model_type')!r} model. Known: Mini-Gemini in this library's layout "
            f"or the authors', CLIP, open_clip's ConvNeXt, {_STAGE_1_FILE}."
        )
    raise CheckpointError(
        f"{str(folder)!r} is not a checkpoint: it has neither config.json nor open_clip_config.json nor "
        f"{_STAGE_1_FILE}."
    )


def _read_all(files: list[Path]) -> tuple[dict[str, TensorHeader], tuple[str, ...]]:
    """Read the headers of all files; return the problems instead of raising the first."""
    headers: dict[str, TensorHeader] = {}
    problems = []
    for file in files:
        try:
            headers |= read_headers(file)
        except CheckpointError as error:
            problems.append(str(error))
    return headers, tuple(problems)


def _measures(files: list[Path], headers: dict[str, TensorHeader], differences: Differences) -> dict[str, Any]:
    return {
        "files": tuple(file.name for file in files),
        "num_parameters": sum(header.num_elements for header in headers.values()),
        "num_bytes": sum(header.num_bytes for header in headers.values()),
        "dtypes": dict(Counter(str(header.dtype).removeprefix("torch.") for header in headers.values())),
        "missing": differences.missing,
        "unexpected": differences.unexpected,
        "mismatched": differences.mismatched,
    }


def _shapes_of(headers: dict[str, TensorHeader]) -> dict[str, tuple[int, ...]]:
    return {key: header.shape for key, header in headers.items()}


def _inspect_model(folder: Path, config_dict: dict[str, Any]) -> CheckpointReport:
    official = is_official(config_dict)
    check_files(folder)
    config_dict = read_config_dict(folder)
    config = read_config(folder, config_dict)
    files = find_weight_files(folder)
    headers, problems = _read_all(files)
    if not problems:
        check_counts(folder, config_dict, headers)
        message = surplus(folder, config_dict, headers)
        problems = (message,) if message else ()
    split = official or any(".block_sparse_moe." in key for key in headers)
    expected = expected_model(config, official=official, split=split)
    notes = []
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if tied & headers.keys():
        notes.append(
            "The head is tied to the embedding, but also stored. Loading keeps it separate only if the two differ."
        )
    if not has_tokenizer_files(folder):
        notes.append(
            "The tokenizer is missing. Put its language model's tokenizer files (tokenizer.json, "
            "tokenizer_config.json, or tokenizer.model) into the folder."
        )
    differences = compare(_shapes_of(headers), expected, optional=tied)
    if config_dict.get("quantization_config"):
        notes.append("The weights are quantized. Their files were read, but names and shapes were not compared.")
        differences = Differences()
    return CheckpointReport(
        str(folder),
        "official" if official else "ours",
        family=config.text_config.model_type,
        prompt_template=config.prompt_template,
        geometry=config.geometry,
        problems=problems,
        notes=tuple(notes),
        **_measures(files, headers, differences),
    )


def _inspect_clip(folder: Path, config: dict[str, Any]) -> CheckpointReport:
    files = find_weight_files(folder)
    headers, problems = _read_all(files)
    shapes = _shapes_of(headers)
    prefix = "vision_model." if any(key.startswith("vision_model.") for key in shapes) else ""
    expected = {prefix + key: shape for key, shape in expected_clip(config).items()}
    others = ("text_model.", "logit_scale", "text_projection.", "visual_projection.")
    found = {key: shape for key, shape in shapes.items() if not key.startswith(others)}
    return CheckpointReport(
        str(folder), "clip", problems=problems, **_measures(files, headers, compare(found, expected))
    )


def _inspect_open_clip(folder: Path) -> CheckpointReport:
    config = read_json(folder / "open_clip_config.json")
    timm_name = str(config.get("model_cfg", config).get("vision_cfg", {}).get("timm_model_name", ""))
    trunk = "visual.trunk."
    expected = {trunk + key: shape for key, shape in expected_trunk(convnext_config(timm_name)).items()}
    files = [folder / name for name in _OPEN_CLIP_FILES if (folder / name).exists()][:1]
    if not files:
        raise CheckpointError(f"There are no weights in {str(folder)!r}: none of {', '.join(_OPEN_CLIP_FILES)}.")
    headers, problems = _read_all(files)
    wanted = (trunk + "stem.", trunk + "stages.")
    found = {key: shape for key, shape in _shapes_of(headers).items() if key.startswith(wanted)}
    return CheckpointReport(
        str(folder), "open_clip", problems=problems, **_measures(files, headers, compare(found, expected))
    )


def _inspect_stage_1(folder: Path, config_dict: dict[str, Any]) -> CheckpointReport:
    files = [folder / _STAGE_1_FILE]
    headers, problems = _read_all(files)
    parts = ("model.mm_projector.", "model.vlm_uni_")
    shapes = {key: shape for key, shape in _shapes_of(headers).items() if key.startswith(parts)}
    if config_dict:
        whole = expected_model(read_config(folder, config_dict), official=True, split=False)
        expected = {key: shape for key, shape in whole.items() if key.startswith(parts)}
    else:
        expected = _stage_1_shapes(shapes)
    return CheckpointReport(
        str(folder), "stage_1", problems=problems, **_measures(files, headers, compare(shapes, expected))
    )


def _stage_1_shapes(found: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The expected content of a stage-1 file; the file itself gives the widths, as it has no config.json."""
    projection = found.get("model.mm_projector.0.weight", (4096, 1024))
    text_dim, query_dim = projection[0], projection[-1]
    candidate_dim = found.get("model.vlm_uni_aux_projector.1.weight", (1024, 2880))[-1]
    expected: dict[str, tuple[int, ...]] = {}
    for name, width in (("query", query_dim), ("aux", candidate_dim), ("val", candidate_dim)):
        for part, shape in (("0.weight", (width,)), ("0.bias", (width,)), ("1.weight", (query_dim, width))):
            expected[f"model.vlm_uni_{name}_projector.{part}"] = shape
        expected[f"model.vlm_uni_{name}_projector.1.bias"] = (query_dim,)
    for index, width in ((0, query_dim), (2, text_dim)):
        expected[f"model.mm_projector.{index}.weight"] = (text_dim, width)
        expected[f"model.mm_projector.{index}.bias"] = (text_dim,)
    return expected
