"""Checks of the machine: Python, packages, extras, torch's device, memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mgem_agent.device_memory.main_memory import read_main_memory
from mgem_agent.doctor.finding import Check, Finding
from mgem_agent.extras import is_installed

__all__ = ["check_memory", "machine_checks"]

DISTRIBUTION = "mgem-agent"
DEVELOPMENT = ("dev", "docs")
ALL = "all"
HEADS = ("torch", "transformers", "diffusers")
"""Packages of an extra whose releases are shown."""
ENOUGH_MEMORY_BYTES = 2 * 2**30


def machine_checks() -> list[Check]:
    """Return the checks of the machine."""
    return [
        ("python", check_python),
        ("packages", check_packages),
        ("extras", check_extras),
        ("processor", check_processor),
        ("memory", check_memory),
    ]


def check_python() -> Sequence[Finding]:
    """Check whether the package supports this Python version."""
    found = platform.python_version()
    wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"] or ">=3.11"
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return [Finding("python", "ok", f"{found}, {platform.system()} {platform.machine()}")]
    return [
        Finding(
            "python",
            "problem",
            f"Python {found} is not supported; it must be {wanted}. Create an environment with a supported version.",
        )
    ]


def check_packages() -> Sequence[Finding]:
    """Check whether every required package is installed in a supported version."""
    wanted = _requirements()[""]
    wrong = [finding for requirement in wanted if (finding := _misfit(requirement, "packages"))]
    if wrong:
        return wrong
    heads = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("langchain", "langgraph"))
    return [Finding("packages", "ok", f"{len(wanted)} required packages, all in supported versions: {heads}, …")]


def check_extras() -> Sequence[Finding]:
    """Check which extras are installed. `all` is the union of the others; development extras are left out."""
    findings = []
    for extra, wanted in _requirements().items():
        if extra in ("", ALL, *DEVELOPMENT):
            continue
        names = [requirement.name for requirement in wanted]
        missing = [requirement.name for requirement in wanted if _misfit(requirement, "") is not None]
        if missing:
            text = f"{extra} is not installed; missing packages: {', '.join(missing)}"
            findings.append(Finding("extras", "note", text, f"pip install '{DISTRIBUTION}[{extra}]'"))
        else:
            heads = [f"{name} {importlib.metadata.version(name)}" for name in HEADS if name in names]
            findings.append(Finding("extras", "ok", f"{extra}: {', '.join(heads)}" if heads else extra))
    return findings


def check_processor() -> Sequence[Finding]:
    """Check which device and data type torch uses."""
    if not is_installed("torch"):
        text = "torch is not installed: models run on a server, none on this machine"
        return [Finding("processor", "note", text, f"pip install '{DISTRIBUTION}[local]'")]
    import torch

    from mgem_agent.core_model.dtype import default_dtype

    if torch.cuda.is_available():
        names = []
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / 2**30
            names.append(f"{torch.cuda.get_device_name(index)} with {memory:.0f} GiB")
        return [Finding("processor", "ok", f"{', '.join(names)}, {_dtype(default_dtype('cuda'))}")]
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    formats = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "bf16") if has.get(name)]
    text = f"CPU, {torch.get_num_threads()} threads, {', '.join(formats) or 'no vector units known to torch'}"
    return [Finding("processor", "ok", f"{text}; computes in {_dtype(default_dtype('cpu'))}")]


def check_memory() -> Sequence[Finding]:
    """Check how much memory is free."""
    memory = read_main_memory()
    if memory is None:
        return []
    total, free = memory
    text = f"{free / 2**30:.1f} GiB of {total / 2**30:.1f} GiB are free"
    if free < ENOUGH_MEMORY_BYTES:
        return [Finding("memory", "note", f"{text}; even nano may need {ENOUGH_MEMORY_BYTES / 2**30:.0f} GiB")]
    return [Finding("memory", "ok", f"{text}, {os.cpu_count()} processors")]


def _requirements() -> dict[str, list[Requirement]]:
    """Return the installed package's requirements by extra; "" is for those that are always required."""
    found: dict[str, list[Requirement]] = {"": []}
    for line in importlib.metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        if requirement.name == DISTRIBUTION:  # an extra that includes another one, which is checked separately
            continue
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            found[""].append(requirement)
            continue
        for extra in importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []:
            if marker.evaluate({"extra": extra}):
                found.setdefault(extra, []).append(requirement)
    return found


def _misfit(requirement: Requirement, topic: str) -> Finding | None:
    """Return a finding if a package is missing or has an unsupported version."""
    wanted = str(requirement.specifier)
    fix = f"pip install '{requirement.name}{wanted}'"
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(topic, "problem", f"{requirement.name} is not installed", fix)
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return Finding(topic, "problem", f"{requirement.name} {version} is not supported; it must be {wanted}", fix)


def _dtype(kind: object) -> str:
    return str(kind).removeprefix("torch.")
