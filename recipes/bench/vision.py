"""From pixels to visual tokens, against the authors' code: `mgem bench vision --hd --llm smollm2-135m --json`.

Both encode the same random images with the same weights. The authors' code runs every layer of CLIP, concatenates the
stage maps at 1/4 scale and projects each of their pixels. A second table has the time of each part, with the columns of
the paper's latency table, and a row for LLaVA-1.5, which has only the LR encoder and the projector. The last column is
the language model's time for the visual tokens and a question, up to the first new token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from pydantic import BaseModel, ConfigDict, computed_field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from mgem_agent.core_model import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.low_res_encoder import low_res_features
from mgem_agent.recipes.bench.comparison import Comparison, format_seconds
from mgem_agent.recipes.bench.measure import DTypeName, compare, find_device, require_positive, seconds_of
from mgem_agent.recipes.bench.parts import PartsWatch
from mgem_agent.recipes.bench.progress import steps
from mgem_agent.recipes.bench.sizes import LanguageModelName, bench_config, build_model, describe_sizes
from mgem_agent.testing import textbook_image_features

__all__ = ["PUBLISHED", "Latency", "VisionComparison", "bench_vision"]

_QUESTION_TOKENS = 32
"""Text tokens that the language model reads after those of the image."""


class Latency(BaseModel):
    """Seconds of each part, for one batch of images: the fastest of the runs. None for parts that a method lacks.

    Attributes:
        method: The method.
        high_res_encoder: The ConvNeXt.
        low_res_encoder: CLIP, on all crops.
        mining: Everything else up to the language model: mining, the projector, cutting and reordering.
        language_model: Reading the prompt of the first image, up to the first new token.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    low_res_encoder: float
    high_res_encoder: float | None
    mining: float
    language_model: float | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> float:
        """Sum of the parts."""
        return self.low_res_encoder + (self.high_res_encoder or 0) + self.mining + (self.language_model or 0)


PUBLISHED = (
    Latency(method="LLaVA-1.5 336", low_res_encoder=0.0106, high_res_encoder=None, mining=0, language_model=3.3183),
    Latency(method="LLaVA-NeXT 672", low_res_encoder=0.0253, high_res_encoder=None, mining=0, language_model=6.0626),
    Latency(method="MGM 336", low_res_encoder=0.0105, high_res_encoder=0.0155, mining=0.0048, language_model=3.9137),
    Latency(method="MGM-HD 672", low_res_encoder=0.0255, high_res_encoder=0.0521, mining=0.0287, language_model=4.4644),
)
"""The paper's latency table, for Vicuna-7B on LLaVA-Wild. Its machine is not stated, and its language model writes a
whole answer."""


class VisionComparison(Comparison):
    """A comparison with the latency of each part.

    Attributes:
        latencies: One row for each method.
        llm: The language model of the last column.
        weights_sha256: Hash of the measured weights: encoders, mining and projector.
        published: The paper's latency table.
    """

    latencies: tuple[Latency, ...]
    llm: LanguageModelName
    weights_sha256: str
    published: tuple[Latency, ...] = PUBLISHED

    def tables(self) -> list[Table]:
        """Return the comparison, and the table of the parts."""
        llm = "LLM" if self.llm == "none" else f"LLM: {self.llm}"
        ours = _parts_table("", llm, self.latencies)
        paper = _parts_table("the paper, machine not stated", "LLM: vicuna-7b, whole answer", self.published)
        return [*super().tables(), ours, paper]

    def render(self) -> RenderableType:
        """Return the comparison as tables for the terminal, with the hash of the weights."""
        return Group(super().render(), Text(f"Weights: sha256 {self.weights_sha256[:16]}."))


def _parts_table(title: str, llm: str, rows: Sequence[Latency]) -> Table:
    table = Table(title, "LR encoder", "HR encoder", "mining, projector", llm, "total")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        seconds = (row.low_res_encoder, row.high_res_encoder, row.mining or None, row.language_model, row.total)
        table.add_row(row.method, *map(format_seconds, seconds))
    return table


def _weights_hash(model: MiniGeminiForConditionalGeneration) -> str:
    """Return the SHA-256 of the weights outside the language model, by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if "language_model" not in name and "lm_head" not in name:
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def bench_vision(
    *,
    hd: bool = False,
    small: bool = False,
    batch: int = 1,
    dtype: DTypeName = "float32",
    device: str = "cpu",
    llm: LanguageModelName = "none",
    repeats: int = 2,
) -> VisionComparison:
    """Measure `get_image_features` at the sizes of the released models.

    Args:
        hd: The HD models: 672/1536 px instead of 336/768 px.
        small: Small sizes, for a quick test; the speed means little.
        batch: Images in a batch.
        dtype: Data type of weights and pixels.
        device: `cpu`, `cuda` or `cuda:1`.
        llm: The language model of the table of parts; "none" omits it.
        repeats: Timed runs of each.

    Raises:
        InputError: If the device is missing, or a number is less than one.
    """
    require_positive(batch=batch, repeats=repeats)
    place, kind = find_device(device), getattr(torch, dtype)
    config = bench_config(hd=hd, small=small, llm=llm)
    torch.manual_seed(0)
    model = build_model(config, device=place, dtype=kind)
    sizes = config.geometry.low_res_input_size, cast(int, config.high_res_image_size)
    low, high = (torch.randn(batch, 3, size, size, device=place, dtype=kind) for size in sizes)

    def encode_ours() -> Mapping[str, Sequence[Tensor]]:
        features: Any = model.get_image_features(low, high)
        return {"visual tokens": features.pooler_output}

    def encode_textbook() -> Mapping[str, Sequence[Tensor]]:
        return {"visual tokens": list(textbook_image_features(model, low, high))}

    comparison = compare(
        encode_ours,
        encode_textbook,
        name="vision",
        setting=f"{describe_sizes(config)}, batch {batch}, {dtype}",
        labels=("get_image_features", "textbook_image_features"),
        device=place,
        repeats=repeats,
        note="Weights and pixels are random; trained ones take the same time. The LLM's time is that of reading one "
        f"image and {_QUESTION_TOKENS} tokens of text, up to the first new token.",
    )
    released = f"MGM{'-HD' * hd} {sizes[0]}/{sizes[1]}"
    crop_size = config.vision_config.image_size
    crop = low[..., :crop_size, :crop_size]
    methods = {
        f"LLaVA-1.5 {crop_size}": (lambda: _llava_features(model, crop), config.geometry.tokens_per_side**2),
        f"{released} ours": (encode_ours, config.geometry.num_image_tokens),
        f"{released} textbook": (encode_textbook, config.geometry.num_image_tokens),
    }
    with torch.inference_mode():
        latencies = _latencies(model, methods, repeats, with_llm=llm != "none")
    return VisionComparison(**dict(comparison), latencies=latencies, llm=llm, weights_sha256=_weights_hash(model))


def _llava_features(model: MiniGeminiForConditionalGeneration, pixel_values: Tensor) -> Tensor:
    """Return the visual tokens of LLaVA-1.5, (i, n, d): the LR encoder's, projected."""
    tokens = low_res_features(model.model.vision_tower, pixel_values, model.config.vision_feature_layer)
    projected: Tensor = model.model.multi_modal_projector(tokens)
    return projected


def _latencies(
    model: MiniGeminiForConditionalGeneration,
    methods: Mapping[str, tuple[Callable[[], object], int]],
    repeats: int,
    *,
    with_llm: bool,
) -> tuple[Latency, ...]:
    """Time the parts of the methods, alternating; each is given by its call and its visual tokens per image."""
    language_model: dict[int, float] = {}
    if with_llm:
        for count in sorted({count for _, count in methods.values()}):
            language_model[count] = _first_token_seconds(model, count, repeats)
    watch = PartsWatch(model)
    seconds: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    with watch:
        for _ in steps("the parts of each method", range(repeats)):
            for method, (call, _) in methods.items():
                seconds[method].append(watch.time(call))

    def fastest(method: str, part: str) -> float:
        return min(timed[part] for timed in seconds[method])

    return tuple(
        Latency(
            method=method,
            low_res_encoder=fastest(method, "low_res_encoder"),
            high_res_encoder=fastest(method, "high_res_encoder") or None,
            mining=fastest(method, "rest"),
            language_model=language_model.get(count),
        )
        for method, (_, count) in methods.items()
    )


def _first_token_seconds(model: MiniGeminiForConditionalGeneration, num_image_tokens: int, repeats: int) -> float:
    """Return the seconds from the embedded prompt of one image to the logits of the first new token."""
    trunk = model.model.language_model
    width = model.config.text_config.hidden_size
    prompt = torch.randn(1, num_image_tokens + _QUESTION_TOKENS, width, device=model.device, dtype=model.dtype)

    def read() -> Tensor:
        scores: Tensor = model.lm_head(trunk(inputs_embeds=prompt, use_cache=True).last_hidden_state[:, -1])
        return scores

    read()
    return min(seconds_of(read, model.device) for _ in range(repeats))
