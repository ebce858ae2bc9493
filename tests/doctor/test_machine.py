"""What the machine has, against what the package asks for."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path

import pytest
import torch

from mgem_agent.device_memory import main_memory
from mgem_agent.doctor.finding import Finding
from mgem_agent.doctor.machine import (
    check_extras,
    check_memory,
    check_packages,
    check_processor,
    check_python,
    machine_checks,
)


def asked_for(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(lines))


def test_this_machine_is_fine() -> None:
    statuses = {topic: {each.status for each in check()} for topic, check in machine_checks()}
    assert statuses["python"] == statuses["packages"] == statuses["processor"] == {"ok"}


def test_a_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.1")
    [found] = check_python()
    assert found.status == "problem"
    assert (
        found.text
        == "Python 3.9.1 is not supported; it must be >=3.11. Create an environment with a supported version."
    )


def test_packages_that_do_not_fit_are_named_with_what_mends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, "pillow>=999,<1000", "no-such-package>=1", "torch>=2", "absent; sys_platform == 'none'")
    here = importlib.metadata.version("pillow")
    assert check_packages() == [
        Finding(
            "packages",
            "problem",
            f"pillow {here} is not supported; it must be <1000,>=999",
            "pip install 'pillow<1000,>=999'",
        ),
        Finding("packages", "problem", "no-such-package is not installed", "pip install 'no-such-package>=1'"),
    ]


def test_extras_are_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = ('no-such-package>=1; extra == "ocr"', 'torch; extra == "postgres"', 'no-such-linter; extra == "dev"')
    asked_for(monkeypatch, *extras)
    assert check_extras() == [
        Finding(
            "extras", "note", "ocr is not installed; missing packages: no-such-package", "pip install 'mgem-agent[ocr]'"
        ),
        Finding("extras", "ok", f"postgres: torch {importlib.metadata.version('torch')}"),
    ]


def test_an_extra_of_extras_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, 'mgem-agent[local]; extra == "all"', 'mgem-agent[local]; extra == "postgres"')
    assert check_extras() == []


def test_a_machine_without_torch_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    [found] = check_processor()
    assert (found.status, found.fix) == ("note", "pip install 'mgem-agent[local]'")


def test_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = {"avx2": True, "avx512_bf16": True, "amx_bf16": False}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    [found] = check_processor()
    threads = torch.get_num_threads()
    assert found.text == f"CPU, {threads} threads, avx2, avx512_bf16; computes in bfloat16"


def test_little_memory_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "meminfo"
    monkeypatch.setattr(main_memory, "MEMINFO", info)
    assert check_memory() == []
    info.write_text("MemTotal:       4194304 kB\nMemAvailable:   1048576 kB\n")
    [found] = check_memory()
    assert (found.status, found.text) == ("note", "1.0 GiB of 4.0 GiB are free; even nano may need 2 GiB")
    info.write_text("MemTotal:       4194304 kB\nMemAvailable:   3145728 kB\n")
    assert check_memory()[0].status == "ok"
