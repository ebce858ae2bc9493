"""The user's config file is found, read and refused before any setting is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.config_file import config_path, read_config
from mgem_agent.errors import InputError


def test_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "mine.toml"))
    assert config_path() == tmp_path / "mine.toml"
    monkeypatch.delenv("MGEM_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/somebody/.config")
    assert config_path().parts[-2:] == ("mgem-agent", "config.toml")


def test_its_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("MGEM_CONFIG", str(path))
    assert read_config() == {}
    path.write_text('model = "nano"')
    assert read_config() == {"model": "nano"}
    path.write_text("model =")
    with pytest.raises(InputError, match=r"^The config file '.*' cannot be read: .*\. Fix the file or remove it\.$"):
        read_config()
    path.write_text('store = "pictures"')
    with pytest.raises(InputError, match=r"^store = 'pictures' in '.*' is a relative path\. Write an absolute path"):
        read_config()
