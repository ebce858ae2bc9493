"""Measure two implementations of the same computation: time, memory, FLOPs, and the difference of their results.

`mgem bench mining`, `vision` and `rounds` use it. Main decisions:

* Both alternate in one process, and take turns in going first, so that both see the same load of the machine.
* Memory is the peak of what a call allocates. On CUDA, the allocator counts it; on the CPU, torch's profiler reports
  every tensor. The resident size of the process is not used: freed memory is reused, so the second measurement would
  seem to need none. Scratch space inside MKL and oneDNN is not counted.
* FLOPs are those of matrix products, convolutions and attention, from torch's own counter.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.comparison import Comparison, Machine, Run, format_seconds
from mgem_agent.recipes.bench.progress import report

__all__ = [
    "DTypeName",
    "compare",
    "describe_machine",
    "find_device",
    "require_positive",
    "seconds_of",
    "time_alternating",
    "use_threads",
    "wait_for",
]

Computation = Callable[[], Mapping[str, Sequence[Tensor]]]
"""One implementation: returns lists of tensors by name."""

DTypeName = Literal["float32", "bfloat16", "float16"]


def compare(
    ours: Computation,
    alternative: Computation,
    *,
    name: str,
    setting: str,
    labels: tuple[str, str],
    device: torch.device,
    repeats: int,
    note: str = "",
    with_gradients: bool = False,
) -> Comparison:
    """Measure ours and the alternative in turns.

    The first call of each warms up, counts the arithmetic and gives the result that is compared; the memory of the
    second is traced; the rest are timed.

    Args:
        ours: Our way.
        alternative: The alternative; it must return the same names and shapes.
        name: The benchmark.
        setting: Description of the computation.
        labels: Names of ours and of the alternative.
        device: The device of both.
        repeats: Timed runs of each.
        note: Note on how to read the figures.
        with_gradients: Whether the calls need autograd; without it they run in inference mode.

    Raises:
        InputError: If there are no runs to time.
    """
    require_positive(repeats=repeats)
    calls = (ours, alternative)
    with torch.set_grad_enabled(with_gradients):
        counted = [_count_flops(call) for call in _labelled(calls, labels, "arithmetic")]
    flops, results = [count for count, _ in counted], [result for _, result in counted]
    counted.clear()
    with torch.inference_mode(not with_gradients):
        differences = {key: _largest_difference(results[0][key], wanted) for key, wanted in results[1].items()}
        values = {key: max(_largest(value) for value in wanted) for key, wanted in results[1].items()}
        results.clear()
        memory = [peak_extra_memory(call, device) for call in _labelled(calls, labels, "memory")]
        seconds = time_alternating(calls, repeats=repeats, device=device, labels=labels)
    runs = [
        Run(label=label, seconds=timed, extra_memory_bytes=peak, flops=count)
        for label, timed, peak, count in zip(labels, seconds, memory, flops, strict=True)
    ]
    return Comparison(
        name=name,
        setting=setting,
        note=note,
        ours_run=runs[0],
        alternative_run=runs[1],
        max_abs_difference=differences,
        max_abs_value=values,
        machine=describe_machine(device),
    )


def _labelled(calls: Sequence[Computation], labels: Sequence[str], what: str) -> Iterator[Computation]:
    """Yield calls, and report each."""
    for place, (call, label) in enumerate(zip(calls, labels, strict=True)):
        report(f"{what} of {label}", place, len(calls))
        yield call


def time_alternating(
    calls: Sequence[Callable[[], object]], *, repeats: int, device: torch.device, labels: Sequence[str] = ()
) -> list[tuple[float, ...]]:
    """Time calls one after another, `repeats` times, in the opposite order every other time.

    Args:
        calls: The calls.
        repeats: Number of timed runs of each.
        device: The device that they use.
        labels: Names of the calls, to report each run and at the end the medians; nothing is reported without.

    Returns:
        The seconds of each call, one for each repeat.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for repeat in range(repeats):
        order = range(len(calls)) if repeat % 2 == 0 else range(len(calls) - 1, -1, -1)
        for index in order:
            if labels:
                report(f"time of {labels[index]}", sum(map(len, seconds)), repeats * len(calls))
            seconds[index].append(seconds_of(calls[index], device))
    for label, timed in zip(labels, seconds, strict=False):
        report("", result=f"{label}: {format_seconds(statistics.median(timed))}")
    return [tuple(timed) for timed in seconds]


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that one call takes, waiting for the device before and after."""
    wait_for(device)
    start = time.perf_counter()
    result = call()
    wait_for(device)
    seconds = time.perf_counter() - start
    del result  # freeing it is not timed
    return seconds


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished its work; do nothing on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_extra_memory(call: Callable[[], object], device: torch.device) -> int:
    """Return the peak bytes of tensors that a call allocates."""
    if device.type == "cuda":
        wait_for(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        wait_for(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _quiet_profiler(), profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        call()
    held = peak = 0
    for event in _memory_events(record):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def _memory_events(record: profile) -> list[dict[str, Any]]:
    """Return all allocations and releases of a profile, in order, from its trace file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        record.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    return sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Keep the profiler from logging to stderr; it reads the log level when it first starts."""
    if "KINETO_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["KINETO_LOG_LEVEL"] = "9"
    try:
        yield
    finally:
        del os.environ["KINETO_LOG_LEVEL"]


def _count_flops(call: Computation) -> tuple[int, Mapping[str, Sequence[Tensor]]]:
    with FlopCounterMode(display=False) as counter:
        result = call()
    return counter.get_total_flops(), result


def _largest_difference(values: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    return max(_largest(a.float() - b.float()) for a, b in zip(values, wanted, strict=True))


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())


def find_device(name: str) -> torch.device:
    """Return a device on which a benchmark can run.

    Raises:
        InputError: If the device is missing, or its memory cannot be measured.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"No device {name!r} for a benchmark. Use 'cpu', 'cuda' or 'cuda:1'.")
    available = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= available:
        raise InputError(f"No device {name!r}: torch {torch.__version__} sees {available} GPU(s). Use 'cpu'.")
    return device


def require_positive(**counts: int) -> None:
    """Refuse counts, given by name, that are less than one.

    Raises:
        InputError: For the first such count.
    """
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} must be at least 1, got {count}.")


@contextmanager
def use_threads(num_threads: int | None) -> Iterator[None]:
    """Use a number of CPU threads in torch inside a `with` block; None changes nothing.

    Raises:
        InputError: If it is less than one.
    """
    before = torch.get_num_threads()
    if num_threads is not None:
        require_positive(num_threads=num_threads)
        torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_machine(device: torch.device) -> Machine:
    """Describe the machine of the measurement."""
    return Machine(
        processor=_processor(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        num_threads=torch.get_num_threads(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        python=platform.python_version(),
        system=platform.system(),
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
