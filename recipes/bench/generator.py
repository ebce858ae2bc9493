"""Options of a generator, each against the plain pipeline: seconds, and how much the pictures differ.

Every variant draws the same requests with the same seeds: once to load and warm up, then timed, in turns with none
other, as two pipelines may not fit on one device. The peak signal-to-noise ratio and the largest difference of a byte
compare its pictures with the plain ones. An option that the pipeline refuses has its reason in the table.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, computed_field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.errors import InputError, MgemError
from mgem_agent.recipes.bench.comparison import Machine, format_seconds, format_times
from mgem_agent.recipes.bench.measure import describe_machine, find_device, require_positive
from mgem_agent.recipes.bench.progress import report, steps
from mgem_agent.tools import ImageGenerator, ImageRequest, ImageResult, draw, make_generator

__all__ = ["GeneratorOptions", "VariantTimes", "bench_generator", "default_variants"]

_PLAIN = "plain"
_PROMPT = "a red apple"


class VariantTimes(BaseModel):
    """Measurements of the pipeline with some options.

    Attributes:
        label: The options.
        first_s: Seconds of the first batch, with loading and compiling.
        seconds: Seconds of each timed batch.
        psnr_db: Peak signal-to-noise ratio against the plain pictures, in dB; None if they are equal.
        max_difference: Largest difference of a byte, from 0 to 255.
        problem: Why it was not measured; empty if it was.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    first_s: float | None = None
    seconds: tuple[float, ...] = ()
    psnr_db: float | None = None
    max_difference: int | None = None
    problem: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def median_s(self) -> float | None:
        """Median seconds of a batch."""
        return statistics.median(self.seconds) if self.seconds else None


class GeneratorOptions(BaseModel):
    """A generator with different options.

    Attributes:
        name: Name of the generator.
        setting: Size of the requests.
        variants: The variants; the first is plain.
        machine: The machine of the measurement.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    setting: str
    variants: tuple[VariantTimes, ...]
    machine: Machine

    def tables(self) -> list[Table]:
        """Return one row for each variant."""
        table = Table("options", "first batch", "a batch", "plain / this", "PSNR", "max. of 255")
        table.columns[0].no_wrap = True
        for column in table.columns[1:]:
            column.justify = "right"
        plain = self.variants[0].median_s
        for each in self.variants:
            if each.median_s is None:
                table.add_row(Text(each.label), "–", "–", "", "", "")
                continue
            ratio = None if plain is None else plain / each.median_s
            psnr = "equal" if each.psnr_db is None else f"{each.psnr_db:.1f} dB"
            is_plain = each is self.variants[0]
            table.add_row(
                Text(each.label),
                format_seconds(each.first_s),
                format_seconds(each.median_s),
                format_times(ratio),
                "" if is_plain else psnr,
                "" if is_plain else str(each.max_difference),
            )
        return [table]

    def render(self) -> RenderableType:
        """Return the table, and why options were not measured."""
        problems = [Text(f"{each.label}: {each.problem}") for each in self.variants if each.problem]
        machine = self.machine
        last = f"{machine.processor}; {machine.device}, threads: {machine.num_threads}; torch {machine.torch}."
        return Group(Text(f"generator: {self.name}, {self.setting}", "bold"), *self.tables(), *problems, Text(last))


def default_variants(device: str) -> list[dict[str, Any]]:
    """Return the options that are tried if none are given; compiling on a CPU takes minutes, and is left out there.

    Args:
        device: The device.
    """
    variants: list[dict[str, Any]] = [
        {"vae_tiling": True},
        {"vae_slicing": True},
        {"quantization": 8},
        {"cache": "first_block"},
        {"cache": "taylorseer"},
    ]
    return variants if device == "cpu" else [*variants, {"compile": "blocks"}, {"speed": "fast"}]


def bench_generator(
    name: str = "nano",
    *,
    variants: Sequence[Mapping[str, Any]] | None = None,
    prompt: str = _PROMPT,
    number: int = 2,
    size: tuple[int, int] | None = None,
    num_steps: int | None = None,
    device: str = "cpu",
    repeats: int = 2,
) -> GeneratorOptions:
    """Measure a local generator with each of some options.

    Args:
        name: Name of a generator that runs on this machine.
        variants: Options of each variant; None for `default_variants`.
        prompt: What is drawn.
        number: Number of pictures in a batch.
        size: Width and height in pixels; None for the generator's own.
        num_steps: Denoising steps; None for the generator's own.
        device: The device.
        repeats: Timed batches of each variant.

    Raises:
        InputError: If the generator does not run on this machine.
        MgemError: If the plain pipeline cannot draw.
    """
    require_positive(number=number, repeats=repeats)
    torch_device = find_device(device)
    chosen = default_variants(device) if variants is None else list(variants)
    requests = [
        ImageRequest(
            prompt=prompt,
            seed=seed,
            width=size and size[0],
            height=size and size[1],
            num_inference_steps=num_steps,
        )
        for seed in range(1, number + 1)
    ]
    plain, wanted = _measure(name, {}, requests, device, repeats)
    measured = [plain]
    for options in chosen:
        label = ", ".join(f"{key}={value}" for key, value in options.items())
        try:
            times, pictures = _measure(name, options, requests, device, repeats)
        except MgemError as error:
            times = VariantTimes(label=label, problem=str(error))
        else:
            times = times.model_copy(update=_difference(pictures, wanted))
        measured.append(times)
        report("generator", result=_line(times))
    size_text = f"{wanted[0].shape[1]}x{wanted[0].shape[0]}"
    setting = f"{number} pictures of {size_text}, {'its own' if num_steps is None else num_steps} steps"
    return GeneratorOptions(
        name=name, setting=setting, variants=tuple(measured), machine=describe_machine(torch_device)
    )


def _measure(
    name: str, options: Mapping[str, Any], requests: Sequence[ImageRequest], device: str, repeats: int
) -> tuple[VariantTimes, list[Any]]:
    """Measure one variant; return its times and its pictures as arrays."""
    label = ", ".join(f"{key}={value}" for key, value in options.items()) or _PLAIN
    batch = {"max_batch_size": len(requests), "device": device}
    made = _make(name, {**batch, **options})
    try:
        started = time.perf_counter()
        pictures = _pictures(made, requests)
        first = time.perf_counter() - started
        seconds = []
        for _ in steps(label, range(repeats)):
            started = time.perf_counter()
            _pictures(made, requests)
            seconds.append(time.perf_counter() - started)
    finally:
        made.unload()
    return VariantTimes(label=label, first_s=first, seconds=tuple(seconds)), pictures


def _make(name: str, options: Mapping[str, Any]) -> ImageGenerator:
    if name != "nano" and not name.startswith("diffusers:"):
        raise InputError(
            f"'mgem bench generator' measures generators of this machine, and {name!r} is none. Give 'nano' or "
            "'diffusers:' with a folder, a hub id or a short name."
        )
    return make_generator(name, **options)


def _pictures(generator: ImageGenerator, requests: Sequence[ImageRequest]) -> list[Any]:
    """Draw a batch; return the pictures in the order of the requests."""
    found: dict[int, Any] = {}
    for event in draw(generator, requests):
        if isinstance(event, ImageResult):
            if event.image is None:
                raise event.error or MgemError("The generator returned no picture.")
            found[event.index] = np.asarray(event.image, dtype=np.int16)
    return [found[index] for index in range(len(requests))]


def _difference(pictures: Sequence[Any], wanted: Sequence[Any]) -> dict[str, Any]:
    """Return how much pictures differ from the plain ones."""
    errors = np.stack(pictures) - np.stack(wanted)
    mean = float(np.square(errors, dtype=np.float64).mean())
    psnr = None if mean == 0 else 10 * float(np.log10(255**2 / mean))
    return {"psnr_db": psnr, "max_difference": int(np.abs(errors).max())}


def _line(times: VariantTimes) -> str:
    if times.problem:
        return f"{times.label}: not measured"
    psnr = "equal" if times.psnr_db is None else f"{times.psnr_db:.1f} dB"
    return f"{times.label}: {format_seconds(times.median_s)}, {psnr}"
