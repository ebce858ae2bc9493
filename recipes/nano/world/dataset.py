r"""Scenes on disk: records in LLaVA's format, and their pictures.

    {"id": "train-0-7", "image": "train/00000/7.webp", "split": "train", "kind": "two_beside",
     "conversations": [{"from": "human", "value": "<image>\nWhat is …?"}, {"from": "gpt", "value": "A fox."}],
     "answer_kinds": ["what"], "accepted": [["fox", "red fox"]]}

The record of an index is always the same. Several processes draw the pictures; one writes the records in order, each
after its picture. So a killed run resumes after the last complete record.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import RecordWriter
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import SceneKind, Split, sample_scene
from mgem_agent.recipes.nano.world.scene_dialogues import dialogue_about
from mgem_agent.recipes.nano.world.scene_rendering import render_scene
from mgem_agent.user_files import user_path

__all__ = ["SceneDataSettings", "scene_record", "write_scenes"]

_FOLDER_OF = 1000  # pictures a folder
_ENCODINGS: dict[str, dict[str, int]] = {"webp": {"quality": 92, "method": 0}, "png": {"compress_level": 1}}
_VERSION = 3  # increase it when the same settings give other records


@dataclass(frozen=True)
class SceneDataSettings:
    """Settings of a series of scenes.

    Args:
        split: "train" or "held_out".
        kind: Kind of the scenes, one of :data:`~mgem_agent.recipes.nano.world.scene.SceneKind`.
        seed: Seed of the series.
        size_px: Width and height of the pictures.
        picture_format: "webp" or, three times as large, "png".
    """

    split: Split = "train"
    kind: SceneKind = "any"
    seed: int = 0
    size_px: int = 256
    picture_format: Literal["webp", "png"] = "webp"


def scene_record(index: int, settings: SceneDataSettings) -> dict[str, Any]:
    """Return the record of a scene.

    Args:
        index: Index in the series, from 0.
        settings: Settings of the series.
    """
    scene = sample_scene(settings.seed, index, kind=settings.kind, split=settings.split)
    rng = random.Random(f"{settings.seed}/{settings.split}/{settings.kind}/{index}")
    turns = dialogue_about(scene, rng, thorough=settings.kind in ("asked", "chart"))
    conversations: list[dict[str, str]] = []
    for turn in turns:
        mark = "" if conversations else "<image>\n"
        conversations.append({"from": "human", "value": f"{mark}{turn.question}"})
        conversations.append({"from": "gpt", "value": turn.answer})
    return {
        "id": f"{settings.split}-{settings.seed}-{index}",
        "image": f"{settings.split}/{index // _FOLDER_OF:05d}/{index}.{settings.picture_format}",
        "split": settings.split,
        "kind": scene.layout,
        "conversations": conversations,
        "answer_kinds": [turn.kind for turn in turns],
        "accepted": [list(turn.accepted) for turn in turns],
    }


def write_scenes(
    folder: str | Path,
    num_scenes: int,
    assets: EmojiAssets,
    settings: SceneDataSettings | None = None,
    *,
    num_processes: int = 1,
    report: Callable[[int], None] = lambda done: None,
) -> Path:
    """Write scenes as records and pictures; existing ones are kept.

    Args:
        folder: Folder of `SPLIT.jsonl` and of the folder `SPLIT` of pictures.
        num_scenes: Total number of scenes.
        assets: The emoji set.
        settings: Settings of the series.
        num_processes: Number of processes that draw.
        report: Called with the number of scenes done.

    Returns:
        The file of records.

    Raises:
        InputError: If a number is too small, or the folder holds scenes of other settings.
    """
    settings = settings or SceneDataSettings()
    if num_scenes < 1 or num_processes < 1:
        raise InputError(f"{num_scenes} scenes by {num_processes} processes cannot be made. Give 1 or more of both.")
    path = user_path(folder) / f"{settings.split}.jsonl"
    with RecordWriter.open(path, {**asdict(settings), "version": _VERSION}) as writer:
        report(writer.num_records)
        make = functools.partial(_make, folder=path.parent, settings=settings)
        for record in _in_order(make, range(writer.num_records, num_scenes), assets, num_processes):
            writer.write(record)
            report(writer.num_records)
    return path


def _in_order(
    make: Callable[[int], dict[str, Any]], indices: range, assets: EmojiAssets, num_processes: int
) -> Iterator[dict[str, Any]]:
    if num_processes == 1 or len(indices) < 2:
        _set_assets(assets)
        yield from map(make, indices)
        return
    # Spawn, because torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_processes, _set_assets, (assets,)) as pool:
        yield from pool.imap(make, indices, chunksize=16)


_assets: EmojiAssets | None = None


def _set_assets(assets: EmojiAssets) -> None:
    """Store the emoji set in this process, so that it is sent only once."""
    global _assets
    _assets = assets


def _make(index: int, *, folder: Path, settings: SceneDataSettings) -> dict[str, Any]:
    """Draw a scene, write its picture, and return its record."""
    if _assets is None:
        raise RuntimeError("this process has no emoji set")
    record = scene_record(index, settings)
    scene = sample_scene(settings.seed, index, kind=settings.kind, split=settings.split)
    path = folder / record["image"]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    image = render_scene(scene, _assets, settings.size_px)
    image.save(part, format=settings.picture_format, **_ENCODINGS[settings.picture_format])
    os.replace(part, path)
    return record
