"""Conversion of a source's records to one schema, with the pictures that are really there.

The records of a source go to `records/SOURCE.jsonl` below the root, as `{"id", "image"?, "conversations"}`. A record
whose picture is missing or unreadable is left out; `SOURCE.missing.txt` and `SOURCE.broken.jsonl` list them.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from PIL import Image

from mgem_agent.core_model.image_loading import quietly
from mgem_agent.errors import InputError
from mgem_agent.recipes.data.sources.converters import CONVERTERS
from mgem_agent.recipes.data.sources.files import fetch_pictures
from mgem_agent.recipes.data.sources.manifest import Manifest
from mgem_agent.tools.servers.web_address import PublicAddresses

__all__ = ["SourceReport", "convert_source", "find_picture"]

_ENDINGS = (".jpg", ".png", ".jpeg", ".gif", ".webp")
_GENOME_FOLDERS = ("VG_100K", "VG_100K_2", "images")
_CACHED_PICTURES = 2**16
_SEED = 0


@dataclass
class SourceReport:
    """What was obtained of a source.

    Args:
        source: Its name; for a file with records of several sources, followed by theirs.
        wanted: Approximate number of its records in the mix, by the paper; 0 if the paper does not say.
        found: Records in its files.
        got: Records written.
        missing: Records left out because a picture is missing.
        broken: Records left out because they are malformed or a picture cannot be read.
        note: What is missing, if nothing could be converted.
    """

    source: str
    wanted: int = 0
    found: int = 0
    got: int = 0
    missing: int = 0
    broken: int = 0
    note: str = ""


@dataclass
class _Left:
    """Records that are left out."""

    missing: Counter[str] = field(default_factory=Counter)
    broken: list[dict[str, str]] = field(default_factory=list)


def convert_source(
    source: Manifest,
    root: Path,
    mix: str,
    manifests: Mapping[str, Manifest],
    *,
    num_parallel: int,
    public: PublicAddresses | None = None,
) -> list[SourceReport]:
    """Convert the records of a source.

    Args:
        source: The source.
        root: Root folder of the data.
        mix: The mix, for the number of records that are wanted.
        manifests: All manifests.
        num_parallel: Maximum number of links to fetch at a time.
        public: Addresses that links may lead to; None for the public internet.

    Returns:
        The report, and if the records come from several sources, one for each of them.

    Raises:
        InputError: If its files cannot be read or are not in the form that its converter reads.
    """
    report = SourceReport(source.name, source.mixes[mix])
    files = sorted({path for pattern in source.records for path in root.glob(pattern) if path.is_file()})
    if not files:
        report.note = f"no records yet; expected {', '.join(source.records)}"
        return [report]
    reports, left = {"": report}, _Left()
    output = root / "records" / f"{source.name}.jsonl"
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for record in _records(source, files, root, num_parallel, public):
            own = _share(source, record, manifests)
            counted = [report] if own is None else [report, reports.setdefault(own, SourceReport(own))]
            kept = _kept(record, root, left)
            for one in counted:
                one.found += 1
                one.got += kept is not None
                one.missing += kept is None and "missing" in record
                one.broken += kept is None and "missing" not in record
            if kept is not None:
                file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    part.replace(output)
    _write_left(output, left)
    return list(reports.values())


def _records(
    source: Manifest, files: list[Path], root: Path, num_parallel: int, public: PublicAddresses | None
) -> Iterator[dict[str, Any]]:
    """Yield the source's records, with the pictures' paths below the root."""
    read = CONVERTERS[source.converter](files, source.pictures)
    records = (record for record in _readable(read, source) if _rename(record, source))
    if source.take is not None:
        everything = list(records)
        chosen = sorted(random.Random(_SEED).sample(range(len(everything)), min(source.take, len(everything))))
        records = (everything[place] for place in chosen)
    if source.converter != "laion_gpt4v":
        yield from records
        return
    linked = list(records)
    links = [(record["url"], root / record["image"]) for record in linked if "url" in record]
    fetch_pictures(links, num_parallel=num_parallel, public=public)
    yield from linked


def _readable(records: Iterator[dict[str, Any]], source: Manifest) -> Iterator[dict[str, Any]]:
    try:
        yield from records
    except (KeyError, IndexError, TypeError, AttributeError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The records of {source.name!r} are not in the form that the converter {source.converter!r} reads: "
            f"{type(error).__name__}: {error}. Compare them with {source.home}."
        ) from error


def _rename(record: dict[str, Any], source: Manifest) -> bool:
    """Rename the pictures of a record; return whether the record belongs to the mix."""
    named = record.get("image")
    if named is None:
        return True
    names = named if isinstance(named, list) else [named]
    if not all(isinstance(name, str) for name in names):
        record["image"] = []  # found malformed below
        record["conversations"] = None
        return True
    renamed = [source.renamed(name) for name in names]
    record["image"] = renamed if isinstance(named, list) else renamed[0]
    return None not in renamed


def _share(source: Manifest, record: Mapping[str, Any], manifests: Mapping[str, Manifest]) -> str | None:
    """Return the name of the source that a record of a joined file comes from; None in any other file."""
    if not source.pictures_of:
        return None
    named = record.get("image")
    first = named[0] if isinstance(named, list) and named else named
    if not isinstance(first, str):
        return f"{source.name}: text alone"
    for name in source.pictures_of:
        if first.startswith(manifests[name].folders):
            return f"{source.name}: {name}"
    return f"{source.name}: other pictures"


def _kept(record: dict[str, Any], root: Path, left: _Left) -> dict[str, Any] | None:
    """Return a record in the schema, or None if it is left out; `record["missing"]` tells why."""
    identifier, turns = str(record.get("id", "")), record.get("conversations")
    if not _is_dialogue(turns):
        left.broken.append({"id": identifier, "reason": "malformed"})
        return None
    kept: dict[str, Any] = {"id": identifier}
    named = record.get("image")
    if named is not None:
        found = []
        for name in named if isinstance(named, list) else [named]:
            place = find_picture(root, name)
            if place is None:
                left.missing[name] += 1
                record["missing"] = name
                return None
            if not _has_picture(root / place):
                left.broken.append({"id": identifier, "reason": "unreadable picture", "picture": place})
                return None
            found.append(place)
        kept["image"] = found if isinstance(named, list) else found[0]
    return {**kept, "conversations": [_turn(turn) for turn in turns]}


def _is_dialogue(turns: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return (
        isinstance(turns, list)
        and len(turns) > 1
        and all(isinstance(turn, Mapping) for turn in turns)
        and all(isinstance(turn.get("from"), str) and isinstance(turn.get("value"), str) for turn in turns)
    )


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    return {key: turn[key] for key in ("from", "value", "draw") if key in turn}


def find_picture(root: Path, name: str) -> str | None:
    """Return where a picture is below the root, or None.

    Records name some pictures with another ending than their file has, and those of Visual Genome are kept in different
    folders.

    Args:
        root: Root folder of the data.
        name: Its path in the records.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        return None
    folders = [path.parent]
    if path.parent.name in _GENOME_FOLDERS and "vg" in path.parts:
        folders += [path.parent.parent / other for other in _GENOME_FOLDERS if other != path.parent.name]
    for folder in folders:
        for ending in dict.fromkeys((path.suffix, *_ENDINGS)):
            place = (folder / path.name).with_suffix(ending) if path.suffix else folder / path.name
            if (root / place).is_file():
                return place.as_posix()
    return None


@lru_cache(maxsize=_CACHED_PICTURES)
def _has_picture(path: Path) -> bool:
    """Return whether a file begins like a picture; it is not decoded."""
    try:
        with quietly(), Image.open(path):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _write_left(output: Path, left: _Left) -> None:
    missing, broken = output.with_suffix(".missing.txt"), output.with_suffix(".broken.jsonl")
    _write_lines(missing, sorted(left.missing))
    _write_lines(broken, (json.dumps(record, ensure_ascii=False) for record in left.broken))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    if text:
        path.write_text(text, encoding="utf-8")
    else:
        path.unlink(missing_ok=True)
