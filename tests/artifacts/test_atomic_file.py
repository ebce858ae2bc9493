from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.artifacts.atomic_file import LEFT_OVER_S, sweep_left_over, write_atomically
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


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    program = "import os, sys; from pathlib import Path; from mgem_agent.artifacts import atomic_file as file\n"
    program += "os.replace = lambda *names: os._exit(9)\nfile.write_atomically(Path(sys.argv[1]), b'x')"
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "book.html")], check=False)
    assert killed.returncode == 9
    [left] = tmp_path.iterdir()
    assert left.suffix == ".mgem-part"
    write_atomically(tmp_path / "story.json", b"y")
    assert [path.name for path in tmp_path.iterdir()] == ["story.json"]


def test_what_another_process_writes_stays(tmp_path: Path) -> None:
    own = tmp_path / f".a.png.{os.getpid()}@{platform.node()}.{'0' * 32}.mgem-part"
    elsewhere = tmp_path / f".a.png.99999999@another-machine.{'0' * 32}.mgem-part"
    old = tmp_path / f".b.png.99999999@another-machine.{'0' * 32}.mgem-part"
    for path in (own, elsewhere, old):
        path.touch()
    os.utime(old, (0, time.time() - LEFT_OVER_S - 60))
    sweep_left_over(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([own, elsewhere])
