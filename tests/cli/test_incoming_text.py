"""Bytes that come into `mgem` through standard input and its arguments."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.cli.incoming_text import decoded_arguments, decoded_lines, read_piped


def piped(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_come_decoded(encoding: str) -> None:
    data = "eins\r\nzwei \u2028 é\ndrei".encode(encoding)
    assert list(decoded_lines(piped(data))) == ["eins\n", "zwei \u2028 é\n", "drei"]
    assert list(decoded_lines(piped(b""))) == []


def test_other_bytes_are_replaced_with_a_notice(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stdin", piped(b"caf\xe9\nfox"))
    assert read_piped() == "caf\ufffd\nfox"
    assert "Standard input is not valid UTF-8 at byte 3" in capsys.readouterr().err


def test_arguments(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.png")
    assert decoded_arguments(["draw", name, "--out", name, f"--out={name}", "fox"]) == [
        "draw", "caf\ufffd.png", "--out", name, f"--out={name}", "fox",
    ]  # fmt: skip
    assert capsys.readouterr().err.count("An argument is not valid UTF-8 at byte 3") == 1
    Path(name).touch()
    assert decoded_arguments(["see", name, f"--image={name}"]) == ["see", name, f"--image={name}"]
