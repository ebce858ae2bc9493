"""Unpacking: resumable, and only into the folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.sources.archives import is_unpacked, unpack


def make_zip(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


def test_an_interrupted_archive_is_continued(tmp_path: Path) -> None:
    archive, folder = make_zip(tmp_path / "a.zip", a__b=b"1", a__c=b"22"), tmp_path / "out"
    (folder / "a").mkdir(parents=True)
    (folder / "a/b").write_bytes(b"x")  # complete by its size, so it is kept
    (folder / "a/c").write_bytes(b"2")
    assert not is_unpacked(archive, folder)
    assert unpack(archive, folder) == 2
    assert ((folder / "a/b").read_bytes(), (folder / "a/c").read_bytes()) == (b"x", b"22")
    assert is_unpacked(archive, folder) and unpack(archive, folder) == 2
    archive.unlink()
    assert is_unpacked(archive, folder)  # a person may delete the archive
    make_zip(archive, d=b"other")
    assert not is_unpacked(archive, folder)


def test_folders_are_left_out(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", top__in__a=b"1", top__b=b"2")
    unpack(archive, tmp_path / "stripped", strip=1)
    assert (tmp_path / "stripped/in/a").is_file() and (tmp_path / "stripped/b").is_file()
    (tmp_path / "a.zip.unpacked").unlink()
    unpack(archive, tmp_path / "flat", flat=True)
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == ["a", "b"]


def test_names_outside_and_links_are_not_written(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", **{"..__evil": b"1"})
    with pytest.raises(InputError, match=r"has the name '../evil', which leaves the folder"):
        unpack(archive, tmp_path / "out")
    with tarfile.open(tmp_path / "b.tar", "w") as opened:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
        member = tarfile.TarInfo("a")
        member.size = 1
        opened.addfile(member, io.BytesIO(b"1"))
    assert unpack(tmp_path / "b.tar", tmp_path / "tar") == 1
    assert [path.name for path in (tmp_path / "tar").iterdir()] == ["a"]


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "a.zip", a=b"1" * 100).read_bytes()
    for name, data in (("cut.zip", whole[:60]), ("text.tar", b"no archive")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=r"is damaged: .*Delete it and run the command again"):
            unpack(tmp_path / name, tmp_path / "out")
