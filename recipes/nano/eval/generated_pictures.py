"""Pictures of held-out captions by a generator, and whether the things in them are recognisable.

A vision-language model names things in the generated pictures and in the real scenes, and a small CLIP may rank names
for both. Errors on the real scenes are errors of the judge. Pictures are stored as they come, so a run can resume.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict

from mgem_agent.errors import GeneratorUnavailableError, InputError
from mgem_agent.recipes.eval.answer_log import AnswerLog
from mgem_agent.recipes.eval.proportion import Proportion
from mgem_agent.recipes.nano.eval.answer_matching import names_all_things
from mgem_agent.recipes.nano.eval.contact_sheet import contact_sheet
from mgem_agent.recipes.nano.eval.picture_variety import PictureVariety
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import Scene, sample_scene
from mgem_agent.recipes.nano.world.scene_captions import caption
from mgem_agent.recipes.nano.world.scene_rendering import render_scene
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = [
    "GeneratedPictures",
    "NamingAccuracy",
    "draw_captions",
    "draw_real",
    "measure_recognition",
    "name_pictures",
    "write_contact_sheet",
]

_AT_ONCE = 8
_ON_THE_SHEET = 48
_LIKELY = 5
_QUESTIONS = {"one thing": "What is in the picture?", "two things": "Which things do you see?"}


class PictureAnswerer(Protocol):
    """The interface of `SeeingModel`."""

    def answer(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        """Return an answer to each question about its picture."""
        ...


class PictureNamer(Protocol):
    """The interface of `ConceptNamer`."""

    def name(self, pictures: Sequence[Image.Image], num: int = 5) -> list[list[str]]:
        """Return the most likely names for each picture, in order."""
        ...


@dataclass(frozen=True)
class DrawnCaption:
    """A caption of a held-out scene, and its picture by the generator.

    Args:
        scene: The scene.
        caption: Its caption.
        file: File of the picture.
        seconds: Seconds it took.
    """

    scene: Scene
    caption: str
    file: Path
    seconds: float


class NamingAccuracy(BaseModel):
    """How often things were named.

    Attributes:
        first: Pictures whose most likely name is a thing in them.
        among_five: Pictures whose things are all among the five most likely names.
    """

    model_config = ConfigDict(frozen=True)

    first: Proportion
    among_five: Proportion


class GeneratedPictures(BaseModel):
    """Results of a generator.

    Attributes:
        generator: Name of the generator.
        seen_by: The model that named things; or None.
        clip: The CLIP model that ranked names; or None.
        num_pictures: Number of pictures.
        num_failed: Number of captions without a picture; another run tries them again.
        size_px: Width and height of the pictures.
        seconds_per_picture: Median seconds.
        seen: Generated pictures whose things the model named, for "one thing" and "two things".
        seen_real: The same for the real scenes.
        generated: Names ranked by CLIP for generated pictures, for "one thing" and "two things".
        real: The same for the real scenes.
        variety: Variety by seed, and positions; None for a generator whose seed has no effect.
        contact_sheet: File of the contact sheet.
    """

    model_config = ConfigDict(frozen=True)

    generator: str
    seen_by: str | None = None
    clip: str | None = None
    num_pictures: int
    num_failed: int
    size_px: tuple[int, int] | None = None
    seconds_per_picture: float | None = None
    seen: dict[str, Proportion] = {}
    seen_real: dict[str, Proportion] = {}
    generated: dict[str, NamingAccuracy] = {}
    real: dict[str, NamingAccuracy] = {}
    variety: PictureVariety | None = None
    contact_sheet: str | None = None


def draw_captions(
    generator: ImageGenerator,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    num: int,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[DrawnCaption]:
    """Draw captions of held-out scenes from nano's world; existing pictures are kept.

    Args:
        generator: The generator.
        folder: Folder of the pictures and of `drawn.jsonl`, their log.
        settings: What the pictures depend on besides the seed.
        num: Number of captions.
        seed: Seed of the scenes, and of the first picture.
        report: Called with the number done and the total.

    Returns:
        The pictures in the order of the captions, without failed ones.

    Raises:
        InputError: If `num` is less than one, or the folder has pictures of other settings.
        GeneratorUnavailableError: If the generator cannot draw at all.
    """
    if num < 1:
        raise InputError(f"{num} captions cannot be drawn. Give 1 or more.")
    scenes = [sample_scene(seed, index, kind="posed", split="held_out") for index in range(num)]
    captions = [caption(scene, random.Random(index), style="plain") for index, scene in enumerate(scenes)]
    with AnswerLog.open(folder / "drawn.jsonl", {**settings, "seed": seed}) as log:
        missing = [index for index in range(num) if not _is_there(folder, log, index)]
        for start in range(0, len(missing), _AT_ONCE):
            report(num - len(missing) + start, num)
            some = missing[start : start + _AT_ONCE]
            requests = [ImageRequest(prompt=captions[index], seed=seed + index) for index in some]
            for event in draw(generator, requests):
                if isinstance(event, ImageResult):
                    _keep(event, some[event.index], folder, log)
        report(num, num)
        return [
            DrawnCaption(scenes[index], captions[index], _file(folder, index), log.answers[str(index)]["seconds"])
            for index in range(num)
            if _is_there(folder, log, index)
        ]


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:04d}.png"


def _is_there(folder: Path, log: AnswerLog, index: int) -> bool:
    return str(index) in log.answers and _file(folder, index).is_file()


def _keep(result: ImageResult, index: int, folder: Path, log: AnswerLog) -> None:
    if isinstance(result.error, GeneratorUnavailableError):
        raise result.error
    if result.image is None:
        return
    file = _file(folder, index)
    part = file.with_name(f"{file.name}.part")
    result.image.save(part, format="PNG")
    os.replace(part, file)
    log.add({"id": str(index), "caption": result.request.prompt, "seconds": round(result.seconds, 3)})


def name_pictures(
    namer: PictureNamer, pictures: Sequence[Image.Image], scenes: Sequence[Scene]
) -> dict[str, NamingAccuracy]:
    """Count how often the things in pictures are named, by their number.

    Args:
        namer: The namer.
        pictures: The pictures.
        scenes: The scene of each picture.
    """
    ranked = namer.name(pictures, _LIKELY)
    rows: dict[str, list[tuple[bool, bool]]] = {}
    for names, scene in zip(ranked, scenes, strict=True):
        things = {thing.concept for thing in scene.objects}
        row = rows.setdefault(_title(scene), [])
        row.append((names[0] in things, things <= set(names)))
    return {
        title: NamingAccuracy(
            first=Proportion.of(first for first, _ in row), among_five=Proportion.of(among for _, among in row)
        )
        for title, row in sorted(rows.items())
    }


def measure_recognition(
    model: PictureAnswerer,
    pictures: Sequence[Image.Image],
    scenes: Sequence[Scene],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Proportion]:
    """Count how often a model names every thing in a picture, by their number.

    Args:
        model: The model.
        pictures: The pictures.
        scenes: The scene of each picture.
        report: Called with the number done and the total.
    """
    verdicts: dict[str, list[bool]] = {}
    for start in range(0, len(pictures), _AT_ONCE):
        report(start, len(pictures))
        some = scenes[start : start + _AT_ONCE]
        answers = model.answer(pictures[start : start + _AT_ONCE], [_QUESTIONS[_title(scene)] for scene in some])
        for scene, answer in zip(some, answers, strict=True):
            things = {thing.concept for thing in scene.objects}
            verdicts.setdefault(_title(scene), []).append(names_all_things([answer], things))
    report(len(pictures), len(pictures))
    return {title: Proportion.of(found) for title, found in sorted(verdicts.items())}


def _title(scene: Scene) -> str:
    return "one thing" if len({thing.concept for thing in scene.objects}) == 1 else "two things"


def draw_real(drawn: Sequence[DrawnCaption], assets: EmojiAssets, size_px: int) -> list[Image.Image]:
    """Return the real scenes at the size of the generator's pictures."""
    return [render_scene(each.scene, assets, size_px) for each in drawn]


def write_contact_sheet(drawn: Sequence[DrawnCaption], file: Path) -> Path:
    """Write the contact sheet of the first pictures, as PNG.

    Args:
        drawn: At least one picture.
        file: The file to write.
    """
    shown = drawn[:_ON_THE_SHEET]
    pictures = []
    for each in shown:
        with Image.open(each.file) as picture:
            pictures.append(picture.convert("RGB"))
    sheet = contact_sheet(pictures, [each.caption for each in shown])
    part = file.with_name(f"{file.name}.part")
    sheet.save(part, format="PNG")
    os.replace(part, file)
    return file
