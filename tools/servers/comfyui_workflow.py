"""A ComfyUI workflow in its API format, with named slots that a request fills.

A slot is an input of a node. It gets its name from the node's title, which a person can write in ComfyUI itself::

    mgem: seed, num_inference_steps, guidance_scale=cfg

If you cannot change the workflow, put the names in a file next to it: `portrait.slots.json` for `portrait.json`, with
the inputs of each slot as `NODE.INPUT`::

    {"prompt": "6.text", "seed": ["3.seed", "17.noise_seed"], "output": "9"}

Slots with the name of a field of `ImageRequest` are filled from it (`steps` and `guidance` are short names);
`reference_1`, `reference_2` … take its references; `output` is the node that returns the picture; any other name is an
option. A workflow does one task, and its slots say which: with `mask` it is `inpaint`, with `image` and `strength`
`image_to_image`, with only `image` `edit`, without any of them `text_to_image`.
"""

from __future__ import annotations

import copy
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.tools.image_request import ImageTask
from mgem_agent.user_files import read_user_file, user_path

__all__ = ["SHIPPED_WORKFLOWS", "ComfyUIWorkflow"]

SHIPPED_WORKFLOWS: tuple[ImageTask, ...] = ("text_to_image", "image_to_image", "inpaint")
"""Tasks for which a workflow of the SDXL kind comes with the package."""

TITLE = re.compile(r"\s*mgem\s*:(?P<slots>.*)", re.DOTALL)
SHORT_NAMES = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
INPUTS = {
    "prompt": ("text",),
    "negative_prompt": ("text",),
    "seed": ("seed", "noise_seed"),
    "num_inference_steps": ("steps",),
    "guidance_scale": ("cfg", "guidance"),
    "strength": ("denoise",),
    "checkpoint": ("ckpt_name",),
    "mask": ("image",),
}
MAX_WORKFLOW_BYTES = 16_000_000
REFERENCE = re.compile(r"reference_[1-9][0-9]?")
REQUEST_SLOTS = frozenset(
    {
        "prompt", "negative_prompt", "seed", "width", "height", "num_inference_steps", "guidance_scale", "strength",
        "image", "mask",
    }
)  # fmt: skip

Inputs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ComfyUIWorkflow:
    """A workflow and its slots.

    Attributes:
        source: Its origin: a path, or the task of a shipped workflow.
        nodes: Nodes by id, each with `class_type` and `inputs`.
        slots: Inputs of each slot, as pairs of a node's id and the input's name.
        output: Id of the node that returns the picture, or None for the first with a picture.
    """

    source: str
    nodes: Mapping[str, Any]
    slots: Mapping[str, Inputs]
    output: str | None

    @classmethod
    def shipped(cls, task: ImageTask) -> ComfyUIWorkflow:
        """Return the shipped workflow for a task of `SHIPPED_WORKFLOWS`."""
        file = importlib.resources.files("mgem_agent.tools.servers") / "workflows" / f"{task}.json"
        return _read(json.loads(file.read_text(encoding="utf-8")), {}, task)

    @classmethod
    def from_file(cls, path: str | Path) -> ComfyUIWorkflow:
        """Read a workflow that was exported in API format, and its slots file if there is one.

        Raises:
            InputError: If it cannot be read, is in another format, or a slot does not fit.
        """
        path = user_path(path)
        slots_file = path.with_suffix(".slots.json")
        return _read(_load(path), _load(slots_file) if slots_file.exists() else {}, str(path))

    @property
    def task(self) -> ImageTask:
        """The task of the workflow."""
        if "mask" in self.slots:
            return "inpaint"
        if "image" in self.slots:
            return "image_to_image" if "strength" in self.slots else "edit"
        return "text_to_image"

    @property
    def options(self) -> frozenset[str]:
        """Slots that are filled from a request's options."""
        return frozenset(name for name in self.slots if name not in REQUEST_SLOTS and not REFERENCE.fullmatch(name))

    @property
    def references(self) -> tuple[str, ...]:
        """Slots for references, in order."""
        found = (name for name in self.slots if REFERENCE.fullmatch(name))
        return tuple(sorted(found, key=lambda name: int(name.partition("_")[2])))

    def value(self, slot: str) -> Any:
        """Return the exported value of a slot; None if there is no such slot, or another node fills it."""
        for node, name in self.slots.get(slot, ()):
            held = self.nodes[node]["inputs"][name]
            return None if isinstance(held, (list, dict)) else held
        return None

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the nodes with filled slots; other slots keep their exported values."""
        nodes = copy.deepcopy(dict(self.nodes))
        for slot, value in values.items():
            for node, name in self.slots[slot]:
                nodes[node]["inputs"][name] = value
        return nodes


def _load(path: Path) -> Any:
    try:
        text = read_user_file(path, "The workflow", max_bytes=MAX_WORKFLOW_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"The workflow {str(path)!r} cannot be read: {error.strerror}. Check the path.") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The workflow {str(path)!r} is not JSON: {error}. Export it from ComfyUI again.") from error


def _read(data: Any, slots_file: Any, source: str) -> ComfyUIWorkflow:
    if isinstance(data, dict) and isinstance(data.get("nodes"), list):
        raise InputError(
            f"The workflow {source!r} is in the format of ComfyUI's editor. Export it there by 'Export (API)'."
        )
    if not isinstance(data, dict) or not data or not all(map(_is_node, data.values())):
        raise InputError(f"The workflow {source!r} is not in ComfyUI's API format. Export it by 'Export (API)'.")
    if not isinstance(slots_file, dict):
        raise InputError(f'The slots of the workflow {source!r} are not a JSON object. Write {{"prompt": "6.text"}}.')
    slots: dict[str, list[tuple[str, str]]] = {}
    output: str | None = None
    for name, node, wanted in (*_titled(data), *_listed(slots_file)):
        if node not in data:
            raise InputError(f"The workflow {source!r} has no node {node!r}, which the slot {name!r} names.")
        if name == "output":
            output = node
            continue
        slots.setdefault(name, []).append((node, _input(name, node, wanted, data[node], source)))
    if "prompt" not in slots:
        raise InputError(
            f"The workflow {source!r} has no slot for the prompt. Give its node the title 'mgem: prompt', "
            f'or write {{"prompt": "NODE.text"}} into {Path(source).stem}.slots.json next to it.'
        )
    return ComfyUIWorkflow(source, data, {name: tuple(inputs) for name, inputs in slots.items()}, output)


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def _titled(nodes: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the slots in the titles of nodes: slot, node, and input or ""."""
    for node, content in nodes.items():
        meta = content.get("_meta")
        title = TITLE.fullmatch(str(meta.get("title", ""))) if isinstance(meta, dict) else None
        for entry in title["slots"].split(",") if title else ():
            name, _, wanted = (part.strip() for part in entry.partition("="))
            if name:
                yield SHORT_NAMES.get(name, name), node, wanted


def _listed(slots_file: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the slots of a slots file, in the same format."""
    for name, targets in slots_file.items():
        for target in targets if isinstance(targets, list) else [targets]:
            node, _, wanted = str(target).partition(".")
            yield SHORT_NAMES.get(name, name), node, wanted


def _input(slot: str, node: str, wanted: str, content: Mapping[str, Any], source: str) -> str:
    """Return the name of the input for a slot."""
    inputs = content["inputs"]
    usual = ("image",) if REFERENCE.fullmatch(slot) else INPUTS.get(slot, (slot,))
    for name in (wanted,) if wanted else usual:
        if name in inputs:
            return name
    raise InputError(
        f"The node {node!r} ({content['class_type']}) of the workflow {source!r} has no input "
        f"{wanted or ' or '.join(usual)!r} for the slot {slot!r}. It has: {', '.join(inputs) or 'none'}."
    )
