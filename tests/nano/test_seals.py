"""Damaged files are noticed, of the same size too, and nothing is hashed at each start."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import shutil
from pathlib import Path

import pytest

from mgem_agent.nano import seals
from mgem_agent.nano.seals import damaged_files, explain_damage, is_intact, remove_sealed, seal_folder, sealed_folders


@pytest.fixture
def folder(cache: Path) -> Path:
    folder = cache / "model"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"1234")
    (folder / "config").write_bytes(b"{}")
    seal_folder(folder)
    return folder


def change(file: Path, content: bytes, *, same_time: bool = False) -> None:
    before = file.stat().st_mtime_ns
    file.write_bytes(content)
    time = before if same_time else before + 1_000_000
    os.utime(file, ns=(time, time))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed."""
    names: list[str] = []
    own = seals._hashed  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(seals, "_hashed", lambda file: names.append(file.name) or own(file))
    return names


def test_an_unchanged_folder_is_not_hashed(folder: Path, hashed: list[str]) -> None:
    assert (damaged_files(folder), hashed) == ([], [])


def test_a_change_of_the_same_size_is_noticed(folder: Path) -> None:
    change(folder / "weights", b"1235")
    assert damaged_files(folder) == ["weights"]
    assert not is_intact(folder)


def test_a_missing_file_is_noticed(folder: Path) -> None:
    (folder / "config").unlink()
    assert damaged_files(folder) == ["config"]


def test_a_copied_folder_is_hashed_once(folder: Path, hashed: list[str]) -> None:
    change(folder / "weights", b"1234")
    assert damaged_files(folder) == []
    assert hashed == ["weights"]
    assert damaged_files(folder) == []
    assert hashed == ["weights"]


def test_damage_that_keeps_the_time_is_found_by_reading_all(folder: Path) -> None:
    change(folder / "weights", b"1235", same_time=True)
    assert damaged_files(folder) == []
    assert damaged_files(folder, reread=True) == ["weights"]


def test_a_folder_without_a_seal(folder: Path, cache: Path) -> None:
    seal = cache / "model.seal"
    assert sealed_folders(cache) == [folder]
    seal.write_text("{")
    assert damaged_files(folder) is None
    remove_sealed(folder)
    assert list(cache.iterdir()) == []
    assert damaged_files(folder) is None
    assert not is_intact(folder)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights of an installed package with a RECORD, as pip writes it."""
    site = tmp_path / "site-packages"
    folder = site / "mgem_agent" / "nano" / "weights" / "diffusion"
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "nano.json").write_text("{}")
    (folder / "vae" / "weights").write_bytes(b"1234")
    info = site / "mgem_agent-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mgem-agent\nVersion: 1.2\n")
    lines = [f"{info.name}/RECORD,,\n"]
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).decode().rstrip("=")
        lines.append(f"{file.relative_to(site).as_posix()},sha256={digest},{file.stat().st_size}\n")
    (info / "RECORD").write_text("".join(lines))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: importlib.metadata.Distribution.at(info))
    return folder


def test_installed_files_are_hashed_once(installed: Path, cache: Path, hashed: list[str]) -> None:
    assert explain_damage(installed, cache) is None
    assert sorted(hashed) == ["model_index.json", "nano.json", "weights"]
    assert explain_damage(installed, cache) is None
    assert len(hashed) == 3


def test_a_damaged_installed_file_is_named(installed: Path, cache: Path) -> None:
    explain_damage(installed, cache)
    file = installed / "vae" / "weights"
    change(file, b"1235")
    expected = (
        f"Not the file that mgem-agent 1.2 installed, but damaged or changed: '{file}'. "
        "Run: pip install --force-reinstall --no-deps mgem-agent==1.2"
    )
    assert explain_damage(installed, cache) == expected


def test_damage_before_the_first_start_is_noticed(installed: Path, cache: Path) -> None:
    change(installed / "nano.json", b"[]", same_time=True)
    assert "nano.json" in str(explain_damage(installed, cache))


def test_an_installed_file_that_keeps_its_time(installed: Path, cache: Path) -> None:
    explain_damage(installed, cache)
    change(installed / "nano.json", b"[]", same_time=True)
    assert explain_damage(installed, cache) is None
    assert "nano.json" in str(explain_damage(installed, cache, reread=True))


def test_another_release_in_the_same_place_is_hashed_anew(installed: Path, cache: Path, hashed: list[str]) -> None:
    explain_damage(installed, cache)
    record = next(installed.parents[3].glob("*.dist-info")) / "RECORD"
    file = installed / "vae" / "weights"
    old = base64.urlsafe_b64encode(hashlib.sha256(b"1234").digest()).decode().rstrip("=")
    new = base64.urlsafe_b64encode(hashlib.sha256(b"5678").digest()).decode().rstrip("=")
    record.write_text(record.read_text().replace(old, new))
    change(file, b"5678", same_time=True)
    hashed.clear()
    assert explain_damage(installed, cache) is None
    assert hashed == ["weights"]


def test_a_checkout_has_no_hashes(installed: Path, cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(installed, copy)
    (copy / "nano.json").write_text("[]")
    assert explain_damage(copy, cache) is None


def test_a_cache_that_cannot_be_written(installed: Path, tmp_path: Path, hashed: list[str]) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert explain_damage(installed, tmp_path / "file" / "nano") is None
    assert len(hashed) == 6
