"""ViStoryBench's form: its stories with characters and reference pictures, and its layout of drawn pictures.

A data set is a folder with a folder for each story: `story.json`, and reference pictures in `image/CHARACTER/`. Drawn
pictures are in `METHOD/MODE/LANGUAGE/TIMESTAMP/STORY/shots/NN.png`, where ViStoryBench's own scorer finds them too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mgem_agent.errors import InputError
from mgem_agent.user_files import read_user_file

__all__ = [
    "REALISTIC_HUMAN",
    "StoryLanguage",
    "VistoryCharacter",
    "VistoryShot",
    "VistoryStory",
    "outputs_folder",
    "read_outputs",
    "read_stories",
    "write_outputs",
    "write_story",
]

StoryLanguage = Literal["en", "ch"]

REALISTIC_HUMAN = "realistic_human"
"""The tag of characters that ViStoryBench compares by their faces."""

_MAX_BYTES = 16 << 20
_PICTURES = (".png", ".jpg", ".jpeg")
_FIELDS = {
    "plot": "Plot Correspondence",
    "scene": "Setting Description",
    "characters": "Characters Appearing",
    "script": "Static Shot Description",
    "camera": "Shot Perspective Design",
}


@dataclass(frozen=True)
class VistoryCharacter:
    """A character.

    Attributes:
        key: Its key in the story.
        name: Its name.
        prompt: Its looks.
        tag: Its kind, such as `realistic_human`.
        images: Its reference pictures.
    """

    key: str
    name: str
    prompt: str
    tag: str
    images: tuple[Path, ...]


@dataclass(frozen=True)
class VistoryShot:
    """A shot.

    Attributes:
        plot: The text of the story.
        scene: The setting.
        characters: Keys of the characters that it shows.
        script: What is seen.
        camera: The perspective.
    """

    plot: str
    scene: str
    characters: tuple[str, ...]
    script: str
    camera: str


@dataclass(frozen=True)
class VistoryStory:
    """A story.

    Attributes:
        id: Name of its folder, a number.
        kind: Its type, such as "Children's Picture Books".
        shots: The shots.
        characters: The characters by key.
    """

    id: str
    kind: str
    shots: tuple[VistoryShot, ...]
    characters: Mapping[str, VistoryCharacter]


def read_stories(dataset: Path, language: StoryLanguage = "en") -> list[VistoryStory]:
    """Read a data set.

    Args:
        dataset: Its folder, with a folder for each story.
        language: Language of the texts.

    Raises:
        InputError: If there are no stories, or one is malformed or has no reference pictures.
    """
    files = sorted(dataset.glob("*/story.json"), key=lambda file: (len(file.parent.name), file.parent.name))
    if not files:
        raise InputError(
            f"{str(dataset)!r} has no stories. Give ViStoryBench's folder ViStory, with 01/story.json and 01/image/."
        )
    return [_story(file, language) for file in files]


def _story(file: Path, language: StoryLanguage) -> VistoryStory:
    try:
        told: dict[str, Any] = json.loads(read_user_file(file, "The story", max_bytes=_MAX_BYTES))
        characters = {
            key: VistoryCharacter(
                key,
                str(each.get(f"name_{language}") or key),
                str(each.get(f"prompt_{language}") or ""),
                str(each.get("tag") or ""),
                _pictures(file.parent / "image" / key),
            )
            for key, each in told["Characters"].items()
        }
        shots = tuple(_shot(each, language) for each in told["Shots"])
        kind = str((told.get("Story_type") or {}).get(language, ""))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{str(file)!r} is no story of ViStoryBench: {error!r}. It needs Characters, and Shots with "
            f"{', '.join(map(repr, _FIELDS.values()))}, each by language."
        ) from error
    unknown = sorted({key for shot in shots for key in shot.characters} - set(characters))
    if unknown:
        raise InputError(f"{str(file)!r} shows {unknown[0]!r}, who is none of its Characters. Add it, or fix the name.")
    lacking = [key for key, each in characters.items() if not each.images]
    if lacking:
        raise InputError(f"{str(file)!r} has no reference picture in image/{lacking[0]}/. Add one as PNG or JPEG.")
    return VistoryStory(file.parent.name, kind, shots, characters)


def _shot(told: Mapping[str, Any], language: StoryLanguage) -> VistoryShot:
    texts = {field: told[name][language] for field, name in _FIELDS.items() if field != "characters"}
    keys = told[_FIELDS["characters"]]["en"]  # keys are English in every language
    return VistoryShot(characters=tuple(str(key).strip() for key in keys), **texts)


def _pictures(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES))


def write_story(story: VistoryStory, dataset: Path) -> None:
    """Write a story in English, with copies of its reference pictures.

    Args:
        story: The story.
        dataset: Folder of the data set.
    """
    folder = dataset / story.id
    folder.mkdir(parents=True, exist_ok=True)
    shots = [
        {
            "index": number,
            **{
                name: {"en": list(shot.characters) if field == "characters" else getattr(shot, field)}
                for field, name in _FIELDS.items()
            },
        }
        for number, shot in enumerate(story.shots, start=1)
    ]
    characters = {
        key: {"name_en": each.name, "prompt_en": each.prompt, "tag": each.tag} for key, each in story.characters.items()
    }
    told = {"Story_type": {"en": story.kind}, "Shots": shots, "Characters": characters}
    (folder / "story.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for key, each in story.characters.items():
        place = folder / "image" / key
        place.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(each.images):
            shutil.copyfile(image, place / f"{number:02d}{image.suffix.lower()}")


def outputs_folder(root: Path, method: str, mode: str, language: StoryLanguage, stamp: str) -> Path:
    """Return the folder of a run, as ViStoryBench names it.

    Args:
        root: Folder of all outputs.
        method: Name of the method.
        mode: Name of the mode.
        language: Language of the texts.
        stamp: The time, as YYYYMMDD-HHMMSS.

    Raises:
        InputError: If a part is no plain name, or the time has another form.
    """
    for part in (method, mode):
        if not re.fullmatch(r"[\w.-]+", part) or part.startswith("."):
            raise InputError(f"{part!r} is no name of a folder. Use letters, digits, '-' and '_'.")
    if not re.fullmatch(r"\d{8}[-_]\d{6}", stamp):
        raise InputError(f"The time of the run is {stamp!r}. Write it as 20261129-031500.")
    return root / method / mode / language / stamp


def write_outputs(run: Path, story_id: str, pictures: Iterable[Path | None]) -> None:
    """Copy the pictures of a story into a run's folder. A missing picture is left out.

    Args:
        run: The run's folder.
        story_id: The story.
        pictures: A picture for each shot, or None.
    """
    folder = run / story_id / "shots"
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        if picture is not None:
            shutil.copyfile(picture, folder / f"{number:02d}{picture.suffix.lower()}")


def read_outputs(run: Path, stories: Sequence[VistoryStory]) -> dict[str, list[Path | None]]:
    """Return the picture of each shot in a run's folder.

    Names that end with a number name the shot, counted from 0 if there is a 0, otherwise from 1. Without numbers, the
    order of the names counts.

    Args:
        run: The folder of a run: `METHOD/MODE/LANGUAGE/TIMESTAMP`.
        stories: The stories.

    Raises:
        InputError: If it has no picture of any story.
    """
    found: dict[str, list[Path | None]] = {}
    for story in stories:
        folder = run / story.id
        shown = folder / "shots" if (folder / "shots").is_dir() else folder
        files = sorted(path for path in shown.glob("*") if path.suffix.lower() in _PICTURES) if shown.is_dir() else []
        if files:
            found[story.id] = _by_shot(files, len(story.shots))
    if not found:
        raise InputError(f"{str(run)!r} has no pictures. Give the folder METHOD/MODE/LANGUAGE/TIMESTAMP of a run.")
    return found


def _by_shot(files: Sequence[Path], num_shots: int) -> list[Path | None]:
    numbers = [re.search(r"(\d+)$", file.stem) for file in files]
    if all(numbers):
        places = [int(number[1]) for number in numbers if number]
        first = 0 if 0 in places else 1
        by_place = dict(zip(places, files, strict=True))
        return [by_place.get(place + first) for place in range(num_shots)]
    return [files[place] if place < len(files) else None for place in range(num_shots)]
