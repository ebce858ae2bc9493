"""What transformers exports, kept from one start to the next."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mgem_agent.import_structure import kept_scan


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `models` of a small package that has the name and the version of a release of transformers."""
    folder = tmp_path / "transformers" / "models"
    (folder / "clip").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "clip" / "modeling_clip.py").write_text("")
    (folder.parent / "utils").mkdir()
    (folder.parent / "utils" / "import_utils.py").write_text("")
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(__version__="5.24.0"))
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "cache"))
    return folder


STRUCTURE = {"clip": {frozenset({"torch"}): {"modeling_clip": {"CLIPModel"}}}, frozenset(): {"auto": {"AutoModel"}}}


def counted(scanned: list[Path]) -> Callable[[Any], dict[Any, Any]]:
    def scan(path: Any) -> dict[Any, Any]:
        scanned.append(Path(path))
        return STRUCTURE

    return scan


def test_the_next_start_reads_one_file(models: Path) -> None:
    scanned: list[Path] = []
    assert [kept_scan(counted(scanned))(models) for _ in range(2)] == [STRUCTURE] * 2
    assert scanned == [models]


def test_a_start_scans_once_for_a_folder_and_its_file(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[Path] = []
    monkeypatch.setenv("MGEM_CACHE", str(models / "__init__.py"))  # nothing can be written there
    scan = kept_scan(counted(scanned))
    assert scan(models) == scan(str(models / "__init__.py")) == STRUCTURE
    assert scanned == [models]


@pytest.mark.parametrize("change", ["release", "file", "folder"])
def test_another_release_is_scanned(models: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    kept_scan(counted([]))(models)
    if change == "release":
        monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(__version__="5.25.0"))
    else:
        os.utime(models if change == "folder" else models.parent / "utils" / "import_utils.py", (1, 1))
    scanned: list[Path] = []
    kept_scan(counted(scanned))(models)
    assert scanned == [models]


def test_a_release_in_development_is_always_scanned(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(__version__="5.25.0.dev0"))
    scanned: list[Path] = []
    for _ in range(2):
        kept_scan(counted(scanned))(models)
    assert scanned == [models, models]


def test_only_the_folder_of_all_models_is_kept(models: Path, tmp_path: Path) -> None:
    kept_scan(counted([]))(models / "clip")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 1, "structure": null}', "\udcff"])
def test_a_damaged_file_is_replaced(models: Path, tmp_path: Path, content: str) -> None:
    kept_scan(counted([]))(models)
    (place,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    sound = json.loads(place.read_text())
    place.write_text(content, errors="surrogateescape")
    assert kept_scan(counted([]))(models) == STRUCTURE
    assert json.loads(place.read_text()) == sound
    assert [path for path in place.parent.iterdir()] == [place]


def test_a_damaged_structure_is_replaced(models: Path, tmp_path: Path) -> None:
    kept_scan(counted([]))(models)
    (place,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    place.write_text(json.dumps(json.loads(place.read_text()) | {"structure": {"folders": []}}))
    scanned: list[Path] = []
    assert kept_scan(counted(scanned))(models) == STRUCTURE
    assert scanned == [models]


def test_a_cache_folder_that_is_not_a_path_keeps_nothing(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_CACHE", "~no-such-user-here/cache")
    assert kept_scan(counted([]))(models) == STRUCTURE


def test_the_kept_structure_is_the_scanned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import models
    from transformers.utils import import_utils

    monkeypatch.setenv("MGEM_CACHE", str(tmp_path))
    scan: Any = import_utils.create_import_structure_from_path
    plain = getattr(scan, "__wrapped__", scan)
    folder = Path(models.__path__[0])
    for _ in range(2):
        assert kept_scan(plain)(folder) == plain(folder)
