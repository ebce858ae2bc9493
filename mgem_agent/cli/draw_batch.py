"""`mgem draw --batch`: draw a file of prompts, in one process or on Ray."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgem_agent.cli.batches import batch_folder, run_and_show, seen_by_workers
from mgem_agent.errors import InputError
from mgem_agent.user_files import read_user_file, user_path

if TYPE_CHECKING:
    from mgem_agent.artifacts import ArtifactStore
    from mgem_agent.scale.batch_row import BatchItem
    from mgem_agent.scale.draw_step import DrawStep
    from mgem_agent.scale.ray_cluster import RayOptions
    from mgem_agent.settings import Settings

__all__ = ["DrawStepMaker", "draw_batch", "read_prompts"]

MAX_FILE_BYTES = 1_000_000_000
MAX_KEY_CHARS = 80
GROUP_SIZE = 8
"""Maximum number of pictures that a generator gets together."""

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_KEY_CHARS - 1}}}")
_PICTURES = ("image", "mask")


@dataclass(frozen=True)
class DrawStepMaker:
    """Creates the step of a batch in the process that draws.

    Attributes:
        settings: `generator`, `store`, `budgets` and `prices` are used.
    """

    settings: Settings

    def __call__(self) -> DrawStep:
        """Return the step; weights are loaded at the first picture."""
        from mgem_agent.cli.factories import open_generator, open_store
        from mgem_agent.scale.draw_step import DrawStep
        from mgem_agent.tools.prices import Prices

        settings = self.settings
        return DrawStep(open_generator(settings), open_store(settings), settings.budgets, Prices(settings.prices))


def draw_batch(
    file: Path,
    fields: Mapping[str, Any],
    settings: Settings,
    *,
    number: int,
    out: Path | None,
    ray: RayOptions | None,
    as_json: bool,
) -> None:
    """Draw a file of prompts.

    Args:
        file: The prompts: JSON lines, or text with one prompt a line.
        fields: Fields of the image request for lines that do not set them.
        settings: All settings.
        number: Number of pictures of each prompt.
        out: Folder of the pictures and the manifest; by default named like the file, in the current folder.
        ray: Where it runs; None for this process.
        as_json: Whether to print one JSON object.

    Raises:
        InputError: If the file is not valid, or names a picture that is missing.
        Exit: With status 1 if a picture failed.
    """
    from mgem_agent.cli.factories import open_generator, open_store

    path = user_path(file)
    folder = batch_folder(Path(path.stem) if out is None else out)
    settings = seen_by_workers(settings, on_ray=ray is not None)
    open_generator(settings)  # an unknown name is an error now, and not in the workers
    given = {**settings.draw_defaults, **fields}
    lines = read_prompts(path, given, open_store(settings))
    items = list(_items(lines, folder, settings.generator, number))
    group = GROUP_SIZE if ray is None else min(GROUP_SIZE, max(1, len(items) // (2 * ray.num_workers)))
    run_and_show("pictures", items, DrawStepMaker(settings), folder, ray, group_size=group, as_json=as_json)


def read_prompts(path: Path, given: Mapping[str, Any], store: ArtifactStore) -> list[tuple[str, dict[str, Any]]]:
    """Read a file of prompts.

    Args:
        path: In a file that ends in `.jsonl` or `.json`, each line is an object with `prompt` and any field of an image
            request, and may have an `id`; in any other, each line is a prompt.
        given: Fields for lines that do not set them.
        store: Pictures that lines name as files are stored there.

    Returns:
        The name and the fields of the request of each line.

    Raises:
        InputError: If a line is not valid; the message has its number.
    """
    try:
        text = read_user_file(path, "The file of prompts", max_bytes=MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"The file of prompts {str(path)!r} does not exist. Check the path.") from error
    is_json = path.suffix.lower() in (".jsonl", ".json")
    found: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = _read_line(line) if is_json else {"prompt": line.strip()}
            found.append(_checked(fields, given, path.parent, store))
        except InputError as error:
            raise InputError(f"Line {number} of {str(path)!r} is not a prompt: {error}") from error
    if not found:
        raise InputError(f'{str(path)!r} has no prompts. Write one a line, such as: {{"prompt": "a red fox"}}')
    return found


def _read_line(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise InputError(f"it is not JSON ({error}). Put one object on each line.") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
        raise InputError('it is not an object with a "prompt".')
    return fields


def _checked(
    fields: dict[str, Any], given: Mapping[str, Any], folder: Path, store: ArtifactStore
) -> tuple[str, dict[str, Any]]:
    """Return the name of a line, and its fields with pictures as ids; the fields are checked."""
    from mgem_agent.agent.drawing import read_request

    name = str(fields.pop("id", ""))
    if name and not _NAME.fullmatch(name):
        raise InputError(
            f"the id {name[:MAX_KEY_CHARS]!r} cannot be the name of a file. Use letters, digits, '.', '_' and '-', at "
            f"most {MAX_KEY_CHARS}."
        )
    asked = {**given, **fields}
    for field in _PICTURES:
        if asked.get(field) is not None:
            asked[field] = _picture(str(asked[field]), folder, store)
    if asked.get("references"):
        asked["references"] = [_picture(str(each), folder, store) for each in asked["references"]]
    if asked.get("image") is not None and "task" not in asked:
        read_request({**asked, "task": "inpaint" if asked.get("mask") is not None else "image_to_image"}, {})
        return name, {key: value for key, value in asked.items() if value is not None}
    return name, read_request(asked, {}).model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def _picture(text: str, folder: Path, store: ArtifactStore) -> str:
    """Return the id of a picture that is given as an id, or as a file relative to the prompts."""
    from mgem_agent.artifacts.picture_id import is_picture_id

    path = folder / user_path(text)
    if path.is_file():
        return store.put_picture(path, origin=text).id
    if is_picture_id(text):
        return store.get(text).id
    raise InputError(f"{text!r} is neither a file nor the id of a picture. Run: mgem images list")


def _items(lines: list[tuple[str, dict[str, Any]]], folder: Path, generator: str, number: int) -> Iterator[BatchItem]:
    """Return one item per picture. A line without an id is named by its content, so lines may be added anywhere."""
    from mgem_agent.scale.batch_row import BatchItem

    seen: dict[str, int] = {}
    for name, request in lines:
        stem = name or f"{_words(request['prompt'])}-{BatchItem('', request).fingerprint[:8]}"
        seen[stem] = seen.get(stem, 0) + 1
        if name and seen[stem] > 1:
            raise InputError(f"Two prompts have the id {name!r}. Give each its own.")
        stem = stem if seen[stem] == 1 else f"{stem}-{seen[stem]}"
        for place in range(number):
            asked = dict(request)
            if place and "seed" in asked:
                asked["seed"] = (asked["seed"] + place) % 2**63
            key = stem if number == 1 else f"{stem}-{place + 1}"
            is_edit = "image" in asked and "task" not in asked
            data = {"request": asked, "is_edit": is_edit, "file": str(folder / f"{key}.png"), "generator": generator}
            yield BatchItem(key, data)


def _words(prompt: str) -> str:
    """Return the first words of a prompt, as part of a file name."""
    return "-".join(re.findall(r"[a-z0-9]+", prompt.lower())[:5])[:40] or "picture"
