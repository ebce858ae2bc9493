"""Pictures from ComfyUI, with any workflow that has named slots.

A name is `comfyui:ADDRESS`, or `comfyui:ADDRESS#WORKFLOW.json` with a workflow of your own (several: one `#` each, one
for each task); see `comfyui_workflow` for how its slots get their names. Without one, the package's own SDXL
workflows are used. Decisions that matter:

- **Progress comes by websocket.** If it cannot be opened, breaks or is silent, the history is polled, so that a lost
  message loses no picture. A restarted server is recognised by its queue.
- **A seed is always sent**, because ComfyUI answers an unchanged workflow from its cache.
- **Cancelling removes the prompt from the queue**, or interrupts it if it runs. Other prompts are not affected.
- **Pictures are uploaded under the hash of their bytes**, so that the server stores each only once.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ValidationError

from mgem_agent.errors import (
    GeneratorOutputError,
    GeneratorUnavailableError,
    InputError,
    MgemError,
    UnsupportedRequestError,
)
from mgem_agent.redaction import redacted_start
from mgem_agent.tools.background_call import call_in_background
from mgem_agent.tools.capabilities import Capabilities, Notice
from mgem_agent.tools.image_request import ImageRequest, ImageTask
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.servers.comfyui_queue import ComfyUIQueue
from mgem_agent.tools.servers.comfyui_workflow import SHIPPED_WORKFLOWS, ComfyUIWorkflow
from mgem_agent.tools.servers.http_client import ServerClient
from mgem_agent.tools.servers.one_by_one import draw_one_by_one
from mgem_agent.tools.servers.server_memory import ServerMemory
from mgem_agent.tools.servers.wire_pictures import png_bytes

__all__ = ["ComfyUIGenerator"]

DEFAULT_ADDRESS = "http://127.0.0.1:8188"
SERVER = "ComfyUI"
SIZE_MULTIPLE = 8
MIN_SIZE = 64
FETCH_S = 10.0
VERSIONS_S = 5.0
MOMENT_S = 0.5
NUMBERS = ("seed", "width", "height", "num_inference_steps", "guidance_scale", "strength")


class ComfyUIGenerator:
    """ComfyUI with its own or your workflows: comfyui:ADDRESS or comfyui:ADDRESS#WORKFLOW.json.

    Args:
        address: Address of the server, and after each `#` the path of a workflow.
        workflow: Path of a workflow, or several, one for each task; besides those in the address.
        checkpoint: File name of the checkpoint, as ComfyUI lists it, for workflows with such a slot.
        timeout_s: Seconds for one picture, including the time in ComfyUI's queue.
        connect_timeout_s: Seconds to reach the server.
        max_retries: Maximum number of retries if the server is busy.
        backoff_s: Seconds before the first retry.
        poll_s: Seconds of silence after which the history is polled.

    Raises:
        InputError: If the address is not valid, or a workflow cannot be used.
    """

    CAPABILITIES = Capabilities(
        tasks=frozenset(SHIPPED_WORKFLOWS),
        negative_prompt=True,
        seed=True,
        num_inference_steps=True,
        guidance_scale=True,
        strength=True,
        size_multiple=SIZE_MULTIPLE,
        min_size=MIN_SIZE,
        max_batch_size=1,
        progress=True,
        cancel=True,
        options=frozenset({"checkpoint", "sampler_name", "scheduler"}),
    )

    def __init__(
        self,
        address: str = "",
        *,
        workflow: str | Path | Sequence[str | Path] = (),
        checkpoint: str | None = None,
        timeout_s: float = 600.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 3,
        backoff_s: float = 0.5,
        poll_s: float = 0.5,
    ) -> None:
        address, *paths = address.split("#")
        paths += [str(path) for path in ([workflow] if isinstance(workflow, (str, Path)) else workflow)]
        self._workflows = _by_task([ComfyUIWorkflow.from_file(path) for path in paths])
        self._paths = tuple(paths)
        self._checkpoint = checkpoint
        self._client = ServerClient(
            address or DEFAULT_ADDRESS,
            server=SERVER,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            max_retries=max_retries,
            backoff_s=backoff_s,
            access_hint="Put the name and password into the address: comfyui:http://NAME:PASSWORD@HOST:8188",
            explain=_explain,
        )
        self._queue = ComfyUIQueue(self._client, poll_s=poll_s)
        self._versions: Future[dict[str, str]] | None = None
        self._memory = ServerMemory(self._client.address, self.name, self.unload)

    @property
    def name(self) -> str:
        """Name in the registry, without a password."""
        return "#".join((f"comfyui:{self._client.address}", *self._paths))

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the server runs on this machine, so that it may share the accelerator with models of this process."""
        return self._memory.is_on_this_machine

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that follow from the workflows' slots; the server is not contacted."""
        flows = self._workflows.values()

        def every(slot: str) -> bool:
            return all(slot in flow.slots for flow in flows)

        return Capabilities(
            tasks=frozenset(self._workflows),
            negative_prompt=every("negative_prompt"),
            seed=every("seed"),
            num_inference_steps=every("num_inference_steps"),
            guidance_scale=every("guidance_scale"),
            strength=any("strength" in flow.slots for flow in flows),
            max_references=max(len(flow.references) for flow in flows),
            size_multiple=SIZE_MULTIPLE,
            min_size=MIN_SIZE,
            max_batch_size=1,
            progress=True,
            cancel=True,
            options=frozenset().union(*(flow.options for flow in flows)),
        )

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw one picture after the other, as `ImageGenerator` defines it."""
        draw = partial(self._draw, pictures=pictures or {}, cancel=cancel or threading.Event())
        yield from draw_one_by_one(requests, draw, generator=self.name, model="", cancel=cancel)

    def unload(self) -> None:
        """Ask the server to unload its models; nothing happens if the server cannot be reached."""
        try:
            self._client.request("POST", "/free", json={"unload_models": True, "free_memory": True}, is_free=True)
        except GeneratorUnavailableError:
            return

    def _draw(
        self, index: int, request: ImageRequest, *, pictures: Mapping[str, Image.Image], cancel: threading.Event
    ) -> Iterator[GenerationProgress | ImageResult]:
        started = time.monotonic()
        flow = self._workflows.get(request.task)
        if flow is None:
            raise UnsupportedRequestError(
                f"{self.name!r} has no workflow for task={request.task!r}, only for {', '.join(self._workflows)}.",
                arguments=("task",),
            )
        values = self._values(request, flow, pictures)
        end = started + self._client.timeout_s
        if self._versions is None:
            self._versions = call_in_background(self._server_versions)
        uploaded = {
            slot: self._upload(pictures[name], cancel, end) for slot, name in _picture_slots(request, flow).items()
        }
        outputs: dict[str, Any] = {}
        # The device is not held while it draws: whoever reads the events may call a model of this process between
        # two of them. The server frees its memory only after the prompt.
        with self._memory.held(cancel.is_set):
            pass
        with closing(self._queue.run(flow.filled(values | uploaded), cancel, end=end)) as events:
            for event in events:
                if isinstance(event, tuple):
                    yield GenerationProgress(index, *event)
                else:
                    outputs = event
        shown = _shown(outputs, flow)
        # The picture is drawn, so there is always some time to fetch it.
        end = max(end, time.monotonic() + FETCH_S)
        image = self._client.request_picture("/view", params=shown[0], cancel=cancel, end=end).image
        executed, notices = _executed(request, values, image, flow)
        if len(shown) > 1:
            notices += (
                Notice(argument="options", message=f"The workflow returned {len(shown)} pictures; one is kept."),
            )
        yield ImageResult(
            index=index,
            request=request,
            executed=executed,
            generator=self.name,
            model=str(values.get("checkpoint") or Path(flow.source).stem),
            image=image,
            notices=notices,
            seconds=time.monotonic() - started,
            versions=_if_known(self._versions),
        )

    def _values(
        self, request: ImageRequest, flow: ComfyUIWorkflow, pictures: Mapping[str, Image.Image]
    ) -> dict[str, Any]:
        """Return the value of each slot except pictures: from the request, else from the exported workflow."""
        strange = sorted(request.options.keys() - flow.options)
        if strange:
            raise UnsupportedRequestError(
                f"The workflow {flow.source!r} has no slot for the option(s) {', '.join(map(repr, strange))}. "
                f"It has: {', '.join(sorted(flow.options)) or 'none'}.",
                arguments=("options",),
            )
        values = {name: flow.value(name) for name in flow.slots if flow.value(name) is not None}
        for slot in ("image", "mask", *flow.references):
            values.pop(slot, None)
        if self._checkpoint and "checkpoint" in flow.slots:
            values["checkpoint"] = self._checkpoint
        if "seed" in flow.slots:
            values["seed"] = secrets.randbelow(2**32)
        if request.image is not None:
            for slot, side in zip(("width", "height"), pictures[request.image].size, strict=True):
                if slot in flow.slots:
                    values[slot] = max(MIN_SIZE, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE)
        if "negative_prompt" in flow.slots:
            values["negative_prompt"] = request.negative_prompt or values.get("negative_prompt") or ""
        asked = {name: getattr(request, name) for name in ("prompt", *NUMBERS) if name in flow.slots}
        return values | {name: value for name, value in asked.items() if value is not None} | dict(request.options)

    def _upload(self, image: Image.Image, cancel: threading.Event, end: float) -> str:
        """Upload a picture for LoadImage, and return its name on the server."""
        data = png_bytes(image)
        name = f"mgem-{hashlib.sha256(data).hexdigest()[:16]}.png"
        answer = self._client.request_json(
            "POST",
            "/upload/image",
            cancel=cancel,
            end=end,
            is_free=True,
            data={"type": "input", "overwrite": "true"},
            files={"image": (name, data, "image/png")},
        )
        if not isinstance(answer, dict) or not isinstance(answer.get("name"), str):
            raise GeneratorOutputError(
                f"{SERVER} accepted a picture but returned no name for it: {redacted_start(answer, 200)!r}."
            )
        return "/".join(filter(None, (answer.get("subfolder"), answer["name"])))

    def _server_versions(self) -> dict[str, str]:
        try:
            system = self._client.request_json("GET", "/system_stats", timeout_s=VERSIONS_S, max_retries=0)["system"]
            return {"comfyui": str(system["comfyui_version"])}
        except (MgemError, KeyError, TypeError):  # older servers do not report it
            return {}


def _if_known(versions: Future[dict[str, str]]) -> dict[str, str]:
    """Return the server's versions if they arrive soon; a picture does not wait for them."""
    wait([versions], timeout=MOMENT_S)
    return versions.result() if versions.done() else {}


def _by_task(flows: Sequence[ComfyUIWorkflow]) -> dict[ImageTask, ComfyUIWorkflow]:
    if not flows:
        return {task: ComfyUIWorkflow.shipped(task) for task in SHIPPED_WORKFLOWS}
    found: dict[ImageTask, ComfyUIWorkflow] = {}
    for flow in flows:
        if flow.task in found:
            raise InputError(
                f"The workflows {found[flow.task].source!r} and {flow.source!r} both do {flow.task!r}. Give only one."
            )
        found[flow.task] = flow
    return found


def _picture_slots(request: ImageRequest, flow: ComfyUIWorkflow) -> dict[str, str]:
    """Return the id of the picture for each picture slot; references are repeated to fill all their slots."""
    slots = {name: picture for name in ("image", "mask") if (picture := getattr(request, name)) is not None}
    if len(request.references) > len(flow.references) or (flow.references and not request.references):
        raise UnsupportedRequestError(
            f"The workflow {flow.source!r} takes {len(flow.references)} reference picture(s); "
            f"{len(request.references)} were given.",
            arguments=("references",),
        )
    for place, slot in enumerate(flow.references):
        slots[slot] = request.references[min(place, len(request.references) - 1)]
    return slots


def _shown(outputs: Mapping[str, Any], flow: ComfyUIWorkflow) -> list[dict[str, str]]:
    """Return the places of a finished workflow's pictures: saved ones first, then previews."""
    nodes = [outputs.get(flow.output)] if flow.output is not None else list(outputs.values())
    found = [
        {name: str(picture.get(name) or "") for name in ("filename", "subfolder", "type")}
        for node in nodes
        if isinstance(node, dict) and isinstance(node.get("images"), list)
        for picture in node["images"]
        if isinstance(picture, dict) and picture.get("filename")
    ]
    if not found:
        raise GeneratorOutputError(
            f"{SERVER} ran the workflow {flow.source!r}, but it returned no picture. Check that it ends in a SaveImage "
            f"node and that the slot 'output' names that node."
        )
    return sorted(found, key=lambda picture: picture["type"] != "output")


def _executed(
    request: ImageRequest, values: Mapping[str, Any], image: Image.Image, flow: ComfyUIWorkflow
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """Return the request with the values that were used, and a notice if the size differs."""
    used = {name: values[name] for name in NUMBERS if name in values and name != "strength"}
    if request.task in ("image_to_image", "inpaint") and "strength" in values:
        used["strength"] = values["strength"]
    if values.get("negative_prompt"):
        used["negative_prompt"] = values["negative_prompt"]
    used |= {"width": image.width, "height": image.height}
    options = {name: values[name] for name in flow.options if name in values}
    notices = tuple(
        Notice(argument=name, message=f"{name}={asked} was requested; the workflow returned {used[name]}.")
        for name in ("width", "height")
        if (asked := getattr(request, name)) is not None and asked != used[name]
    )
    try:
        return ImageRequest.model_validate(request.model_dump() | used | {"options": options}), notices
    except ValidationError as error:
        raise GeneratorOutputError(
            f"The workflow {flow.source!r} has an invalid value in a slot: {error.errors()[0]['msg']}"
        ) from error


def _explain(status: int, data: Any) -> MgemError | None:
    """Return ComfyUI's validation errors of a workflow as text, node by node."""
    if not isinstance(data, dict) or "node_errors" not in data:
        return None
    error = data.get("error")
    message = str(error.get("message") if isinstance(error, dict) else error)
    nodes = data["node_errors"] if isinstance(data["node_errors"], dict) else {}
    details = [
        f"node {node!r} ({content.get('class_type')}): {fault.get('message')} ({fault.get('details')})"
        for node, content in nodes.items()
        if isinstance(content, dict)
        for fault in content.get("errors") or ()
        if isinstance(fault, dict)
    ]
    text = redacted_start("; ".join(details), 1500)
    return UnsupportedRequestError(
        f"{SERVER} does not accept the workflow: {message.rstrip('.')}. {text}\nGive one of the listed values, for "
        f"instance as the option checkpoint, or change the workflow."
    )
