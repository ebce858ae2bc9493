"""Paths and text files as people give them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.settings import load_settings
from mgem_agent.user_files import read_user_file, user_path


def test_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/a.png") == Path("/home/me/a.png")
    assert user_path("a ~b") == Path("a ~b")
    with pytest.raises(InputError, match="^'~nobody-here/a.png' begins with an unknown home folder"):
        user_path("~nobody-here/a.png")


@pytest.mark.parametrize("name", ["store", "sessions"])
def test_a_setting_with_an_unknown_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(f"{name} = '~nobody-here/x'")
    with pytest.raises(InputError, match="begins with an unknown home folder"):
        load_settings()


def test_a_text_file_is_decoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa")
    assert read_user_file(path, "The text", max_bytes=10) == "a"
    assert caplog.text == ""
    path.write_bytes(b"caf\xe9")
    assert read_user_file(path, "The text", max_bytes=10) == "caf\ufffd"
    assert f"The text '{path}' is not valid UTF-8 at byte 3" in caplog.text


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * 11)
    wrong = {"fifo": "is a pipe or a device", "large": "is larger than 10 bytes", ".": "cannot be read: Is a directory"}
    for name, message in wrong.items():
        with pytest.raises(InputError, match=message):
            read_user_file(tmp_path / name, "The text", max_bytes=10)
    with pytest.raises(FileNotFoundError):
        read_user_file(tmp_path / "none", "The text", max_bytes=10)


def test_settings_in_a_pipe_or_with_a_mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("MGEM_CONFIG", str(path))
    path.write_bytes(b"\xef\xbb\xbflook = 2")
    assert load_settings().look == 2
    path.write_text("\n".join(f"k{n} = 1" for n in range(2_000)))
    with pytest.raises(InputError, match="1,990 more settings are not valid") as caught:
        load_settings()
    assert len(str(caught.value).splitlines()) == 11
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a pipe or a device"):
        load_settings()


def test_no_settings_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_CONFIG", os.devnull)
    assert load_settings().look == 0
