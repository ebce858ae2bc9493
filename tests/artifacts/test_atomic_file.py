from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.errors import ToolError


def test_it_makes_the_folder_and_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a" / "b.json", b"hello")
    finally:
        os.umask(old)
    assert (tmp_path / "a" / "b.json").read_bytes() == b"hello"
    assert (tmp_path / "a" / "b.json").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.png"
    write_atomically(path, b"old")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(ToolError, match="a.png' cannot be written: No space left on device. Free some space") as caught:
        write_atomically(path, b"new")
    assert caught.value.retryable
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(ToolError, match="cannot be written: "):
        write_atomically(tmp_path / "a" / "b.png", b"x")
