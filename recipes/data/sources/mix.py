"""Getting a mix: the plan, the downloads, the conversion, and the report by source."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.sources.conversion import SourceReport, convert_source
from mgem_agent.recipes.data.sources.files import FileResult, fetch_files, files_of, state_of
from mgem_agent.recipes.data.sources.manifest import Manifest, load_manifests, sources_of
from mgem_agent.tools.servers.web_address import PublicAddresses

__all__ = ["MixPlan", "MixReport", "get_mix", "plan_mix"]


@dataclass(frozen=True)
class MixPlan:
    """What getting a mix would do.

    Args:
        sources: The sources.
        files: Their files, each with its state: `here`, `to fetch` or `by hand`.
        about_bytes: Approximate size of the files to fetch whose size is known.
        num_unknown: Number of the files to fetch whose size is not known.
        free_bytes: Free space at the root.
    """

    sources: tuple[Manifest, ...]
    files: tuple[FileResult, ...]
    about_bytes: int
    num_unknown: int
    free_bytes: int


@dataclass(frozen=True)
class MixReport:
    """What was obtained of a mix.

    Args:
        files: What became of each file.
        sources: What was obtained of each source.
        path: The report as a file.
    """

    files: tuple[FileResult, ...]
    sources: tuple[SourceReport, ...]
    path: Path


def plan_mix(
    mix: str, root: Path, *, only: Sequence[str] = (), manifests: Mapping[str, Manifest] | None = None
) -> MixPlan:
    """Return what getting a mix would do, without using the network.

    Args:
        mix: Name of the mix.
        root: Root folder of the data.
        only: Names of the sources to use; empty for all.
        manifests: All manifests; None for the shipped ones.

    Raises:
        InputError: If there is no such mix or source.
    """
    known = dict(load_manifests() if manifests is None else manifests)
    sources = sources_of(known, mix, only)
    files = []
    for file in files_of(sources, known):
        state = state_of(file, root)
        message = f"{file.manual} Place: {str(root / file.to)!r}" if state == "by hand" else ""
        files.append(FileResult(file, state, message))
    wanted = [result.file for result in files if result.state == "to fetch"]
    sizes = [file.num_bytes or file.about_bytes for file in wanted]
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    return MixPlan(
        tuple(sources),
        tuple(files),
        sum(size for size in sizes if size is not None),
        sizes.count(None),
        shutil.disk_usage(place).free,
    )


def get_mix(
    mix: str,
    root: Path,
    *,
    only: Sequence[str] = (),
    num_parallel: int = 4,
    report: Callable[[str], None] = lambda line: None,
    manifests: Mapping[str, Manifest] | None = None,
    endpoint: str | None = None,
    public: PublicAddresses | None = None,
) -> MixReport:
    """Fetch what can be fetched, convert what is here, and write a report.

    Run it again after adding files by hand, or after an interruption: files that are here are kept.

    Args:
        mix: Name of the mix.
        root: Root folder of the data; created if missing.
        only: Names of the sources to use; empty for all.
        num_parallel: Maximum number of downloads at a time.
        report: Called with progress messages.
        manifests: All manifests; None for the shipped ones.
        endpoint: Address of the hub; None for the usual one.
        public: Addresses that links to pictures may lead to; None for the public internet.

    Raises:
        InputError: If there is no such mix or source, or the root cannot be written.
    """
    known = dict(load_manifests() if manifests is None else manifests)
    sources = sources_of(known, mix, only)
    try:
        root.mkdir(parents=True, exist_ok=True)
        results = fetch_files(
            files_of(sources, known), root, num_parallel=num_parallel, report=report, endpoint=endpoint
        )
        rows = []
        for source in sources:
            report(f"converting: {source.name}")
            try:
                rows += convert_source(source, root, mix, known, num_parallel=num_parallel, public=public)
            except InputError as error:
                rows.append(SourceReport(source.name, source.mixes[mix], note=str(error)))
        path = root / f"{mix}_report.json"
        _write(path, mix, results, rows)
    except OSError as error:
        raise InputError(f"{str(root)!r} cannot be written: {error.strerror or error}. Give another --root.") from error
    return MixReport(tuple(results), tuple(rows), path)


def _write(path: Path, mix: str, results: Sequence[FileResult], rows: Sequence[SourceReport]) -> None:
    files = [
        {"to": result.file.to, "from": result.file.origin, "state": result.state, "message": result.message}
        for result in results
    ]
    content = {"mix": mix, "files": files, "sources": [dataclasses.asdict(row) for row in rows]}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    part.replace(path)
