"""From a picture's file to the first token of the answer, by part: `mgem bench vision --first-token --json`.

Ours is the whole path: decoding the file, preparing both sizes, both encoders, mining, the projector and the language
model's pass over the prompt. The alternative is the same path without high resolution, as in LLaVA-1.5. So the ratio is
what high resolution costs; the paper measures 0.6 % for a language model of 7 billion parameters on a GPU.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from pydantic import computed_field
from rich.table import Table
from torch import Tensor

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.core_model.low_res_encoder import low_res_features
from mgem_agent.core_model.token_extension import split_crops
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_seconds
from mgem_agent.recipes.bench.measure import DTypeName, describe_machine, find_device, require_positive, wait_for
from mgem_agent.recipes.bench.parts import PartsWatch
from mgem_agent.recipes.bench.progress import report, steps
from mgem_agent.recipes.bench.rounds import build_tokenizer
from mgem_agent.recipes.bench.sizes import LanguageModelName, bench_config, build_model, describe_sizes

__all__ = ["FirstTokenComparison", "bench_first_token"]

_QUESTION_TOKENS = 32
_PICTURE_SIZE = (1600, 1200)
_BAR_WIDTH = 30

_NAMES = {
    "decoding": "decoding the file",
    "preparing": "preparing both sizes",
    "low_res_encoder": "LR encoder",
    "high_res_encoder": "HR encoder",
    "mining": "mining",
    "projector": "projector",
    "rest": "cutting and reordering",
    "language_model": "language model, prompt",
}


class FirstTokenComparison(Comparison):
    """Seconds from a picture's file to the first token.

    Attributes:
        parts: Median seconds of each part of ours.
    """

    parts: dict[str, float]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def high_res_share(self) -> float:
        """Share of the HR encoder and mining in all parts."""
        return (self.parts["high_res_encoder"] + self.parts["mining"]) / sum(self.parts.values())

    def tables(self) -> list[Table]:
        """Return the comparison, and a bar for each part."""
        table = Table("", "time", "share", "")
        table.columns[1].justify = table.columns[2].justify = "right"
        whole = sum(self.parts.values())
        for part, seconds in self.parts.items():
            share = seconds / whole
            table.add_row(_NAMES[part], format_seconds(seconds), f"{share:.1%}", "█" * round(share * _BAR_WIDTH))
        table.add_row("HR encoder and mining", "", f"{self.high_res_share:.1%}", "")
        return [*super().tables(), table]


def bench_first_token(
    *,
    hd: bool = False,
    small: bool = False,
    dtype: DTypeName = "float32",
    device: str = "cpu",
    llm: LanguageModelName = "smollm2-135m",
    compile_encoder: bool = False,
    repeats: int = 2,
) -> FirstTokenComparison:
    """Measure the time to the first token with a new picture.

    Args:
        hd: The HD models: 672/1536 px instead of 336/768 px.
        small: Small encoders, for a quick test; the speed means little.
        dtype: Data type of weights and pixels.
        device: `cpu`, `cuda` or `cuda:1`.
        llm: The language model; "none" is one narrow layer.
        compile_encoder: Whether `torch.compile` compiles the HR encoder.
        repeats: Timed runs of each.

    Raises:
        InputError: If the device is missing, or a number is less than one.
    """
    require_positive(repeats=repeats)
    place, kind = find_device(device), getattr(torch, dtype)
    config = bench_config(hd=hd, small=small, llm=llm)
    torch.manual_seed(0)
    model = build_model(config, device=place, dtype=kind)
    processor = MiniGeminiProcessor.from_model_config(config, build_tokenizer(config.text_config.vocab_size))
    if compile_encoder and (encoder := model.model.high_res_vision_tower) is not None:
        encoder.compile_forward()
    path = _Path(model, processor, _picture_file())
    pairs, parts = [], []
    with torch.inference_mode():
        report("warming up")
        path.ours()
        path.without_high_res()
        for _ in steps("the first token of each", range(repeats)):
            pairs.append((path.seconds(path.ours), path.seconds(path.without_high_res)))
            report("", result="{:.3f} s, without high resolution {:.3f} s".format(*pairs[-1]))
        for _ in steps("each part", range(repeats)):
            parts.append(path.parts())
    return FirstTokenComparison(
        name="first token",
        setting=f"{describe_sizes(config)}, {llm} language model, {dtype}"
        + (", HR encoder compiled" if compile_encoder else ""),
        note="A photo of {} × {} px as JPEG, and {} tokens of text; weights are random.".format(
            *_PICTURE_SIZE, _QUESTION_TOKENS
        ),
        ours_run=Run(label="with high resolution", seconds=tuple(pair[0] for pair in pairs)),
        alternative_run=Run(label="LR encoder only", seconds=tuple(pair[1] for pair in pairs)),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(place),
        parts={part: statistics.median(run[part] for run in parts) for part in _NAMES},
    )


def _picture_file() -> bytes:
    """Return a JPEG with smooth and rough places."""
    noise = Image.effect_noise(_PICTURE_SIZE, 40)
    smooth = Image.linear_gradient("L").resize(_PICTURE_SIZE)
    file = io.BytesIO()
    Image.merge("RGB", [smooth, noise, Image.blend(smooth, noise, 0.5)]).save(file, "JPEG", quality=90)
    return file.getvalue()


class _Path:
    """The way from a file to the first token."""

    def __init__(self, model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor, file: bytes) -> None:
        self._model, self._processor, self._file = model, processor, file
        self._question = torch.arange(_QUESTION_TOKENS, device=model.device)[None]

    def ours(self) -> int:
        """Return the first token with high resolution."""
        return self._first_token(self._features(self._prepared(self._picture())))

    def without_high_res(self) -> int:
        """Return the first token of the LR encoder's visual tokens alone."""
        pixels = self._prepared(self._picture())["pixel_values"]
        trunk = self._model.model
        views = split_crops(pixels, self._model.config.image_grid)[:1]
        tokens = low_res_features(trunk.vision_tower, views, self._model.config.vision_feature_layer)
        return self._first_token(trunk.multi_modal_projector(tokens)[0])

    def parts(self) -> dict[str, float]:
        """Return the seconds of each part."""
        seconds: dict[str, float] = {}
        prepared: dict[str, Any] = {}
        seconds["decoding"] = self.seconds(self._picture)
        picture = self._picture()
        seconds["preparing"] = self.seconds(lambda: prepared.update(self._prepared(picture)))
        watch = PartsWatch(self._model)
        kept: list[Tensor] = []
        with watch:
            encoding = watch.time(lambda: kept.append(self._features(prepared)))
        encoding["rest"] -= encoding["mining"] + encoding["projector"]
        seconds |= encoding
        seconds["language_model"] = self.seconds(lambda: self._first_token(kept[0]))
        return seconds

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the seconds of a call."""
        start = time.perf_counter()
        call()
        wait_for(self._model.device)
        return time.perf_counter() - start

    def _picture(self) -> Image.Image:
        picture: Image.Image = load_image(self._file)
        return picture

    def _prepared(self, picture: Image.Image) -> Mapping[str, Tensor]:
        prepared: Any = self._processor.image_processor([picture], return_tensors="pt")
        return {name: value.to(self._model.device, self._model.dtype) for name, value in prepared.items()}

    def _features(self, prepared: Mapping[str, Tensor]) -> Tensor:
        output: Any = self._model.get_image_features(**prepared)
        rows: Tensor = output.pooler_output[0]
        return rows

    def _first_token(self, rows: Tensor) -> int:
        model = self._model
        prompt = torch.cat([rows[None], model.get_input_embeddings()(self._question)], dim=1)
        hidden = model.model.language_model(inputs_embeds=prompt, use_cache=True).last_hidden_state
        return int(model.lm_head(hidden[:, -1]).argmax())
