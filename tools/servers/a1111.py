"""Pictures from AUTOMATIC1111's Stable Diffusion web UI, and from servers with the same API (Forge, SD.Next).

A name is `a1111:ADDRESS`. The server must run with `--api`. Decisions that matter:

- **Pictures are drawn one by one**: the API takes one prompt at a time.
- **The client chooses the seed** if the request has none, so that it is known whatever the server reports.
- **The values that were used are read back** from the response and the image file: seed, sampler, steps, guidance and
  checkpoint are in the executed request, with a notice if they differ from the request. The same picture can be drawn
  again after the server's model was changed.
- **Cancelling interrupts the server**, which stops whatever it is drawing. The client does not wait for it. Servers
  without an interrupt finish the picture, which is discarded.
- **Inpainting starts from the existing pixels and redraws the whole picture**, the default of the web page; the API's
  default fills the masked part with one colour and crops to it. Options change this.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from PIL import Image

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorUnavailableError,
    MgemError,
    ToolError,
    UnsupportedRequestError,
)
from mgem_agent.redaction import redacted_start
from mgem_agent.tools.background_call import call_in_background
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.servers.executed_request import executed_request, facts_of_parameters
from mgem_agent.tools.servers.http_client import ServerClient
from mgem_agent.tools.servers.one_by_one import draw_one_by_one
from mgem_agent.tools.servers.served_picture import read_parameters, read_picture_text
from mgem_agent.tools.servers.server_memory import ServerMemory
from mgem_agent.tools.servers.wire_pictures import png_base64

__all__ = ["A1111Generator"]

DEFAULT_ADDRESS = "http://127.0.0.1:7860"
SERVER = "The Stable Diffusion web UI"
SIZE_MULTIPLE = 8
INTERRUPT_S = 1.0
PROGRESS_S = 5.0
CHECKPOINT = "sd_model_checkpoint"
SAMPLING_OPTIONS = frozenset(
    {
        "alwayson_scripts", "cfg_rescale", "distilled_cfg_scale", "eta", "override_settings", "refiner_checkpoint",
        "refiner_switch_at", "restore_faces", "sampler_name", "scheduler", "script_args", "script_name", "styles",
        "subseed", "subseed_strength", "tiling",
    }
)  # fmt: skip
NAMED_OPTIONS = {"sampler_name": "sampler_name", "scheduler": "scheduler", "model": CHECKPOINT}
HIRES_OPTIONS = frozenset(
    {
        "denoising_strength", "enable_hr", "hr_resize_x", "hr_resize_y", "hr_sampler_name", "hr_scale",
        "hr_second_pass_steps", "hr_upscaler",
    }
)  # fmt: skip
IMAGE_OPTIONS = frozenset(
    {
        "initial_noise_multiplier", "inpaint_full_res", "inpaint_full_res_padding", "inpainting_fill",
        "inpainting_mask_invert", "mask_blur", "resize_mode",
    }
)  # fmt: skip


class A1111Generator:
    """The Stable Diffusion web UI of AUTOMATIC1111, Forge or SD.Next: a1111:ADDRESS.

    Args:
        address: Address of the server; a user name and password in it are used to log in.
        timeout_s: Seconds for one picture.
        connect_timeout_s: Seconds to reach the server.
        max_retries: Maximum number of retries if the server is busy.
        backoff_s: Seconds before the first retry.
        poll_s: Seconds between two requests for the progress.

    Raises:
        InputError: If the address is not valid.
    """

    CAPABILITIES = Capabilities(
        tasks=frozenset({"text_to_image", "image_to_image", "inpaint"}),
        negative_prompt=True,
        seed=True,
        num_inference_steps=True,
        guidance_scale=True,
        strength=True,
        size_multiple=SIZE_MULTIPLE,
        min_size=64,
        max_size=4096,
        max_batch_size=1,
        progress=True,
        cancel=True,
        options=SAMPLING_OPTIONS | HIRES_OPTIONS | IMAGE_OPTIONS | {CHECKPOINT},
    )

    def __init__(
        self,
        address: str = "",
        *,
        timeout_s: float = 600.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 3,
        backoff_s: float = 0.5,
        poll_s: float = 0.5,
    ) -> None:
        self._client = ServerClient(
            address or DEFAULT_ADDRESS,
            server=SERVER,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            max_retries=max_retries,
            backoff_s=backoff_s,
            access_hint="Put the name and password into the address: a1111:http://NAME:PASSWORD@HOST:7860",
            explain=_explain,
        )
        self._poll_s = poll_s
        self._unloaded = False
        self._memory = ServerMemory(self._client.address, self.name, self.unload)

    @property
    def name(self) -> str:
        """Name in the registry, without a password."""
        return f"a1111:{self._client.address}"

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the server runs on this machine, so that it may share the accelerator with models of this process."""
        return self._memory.is_on_this_machine

    @property
    def capabilities(self) -> Capabilities:
        """What the API supports; the server is not contacted."""
        return self.CAPABILITIES

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
        """Ask the server to unload its model; nothing happens if the server cannot be reached."""
        try:
            self._client.request("POST", "/sdapi/v1/unload-checkpoint", is_free=True)
        except GeneratorUnavailableError:
            return
        self._unloaded = True

    def _request_picture(self, path: str, body: Mapping[str, Any], cancel: threading.Event) -> Any:
        """Request a picture, after the server has loaded its model again if it was told to unload it."""
        with self._memory.held(cancel.is_set):
            if self._unloaded:
                self._client.request("POST", "/sdapi/v1/reload-checkpoint", cancel=cancel, is_free=True)
                self._unloaded = False
            return self._client.request_json("POST", path, json=body, cancel=cancel)

    def _draw(
        self, index: int, request: ImageRequest, *, pictures: Mapping[str, Image.Image], cancel: threading.Event
    ) -> Iterator[GenerationProgress | ImageResult]:
        started = time.monotonic()
        path = "/sdapi/v1/txt2img" if request.image is None else "/sdapi/v1/img2img"
        seeded = request if request.seed is not None else request.model_copy(update={"seed": secrets.randbelow(2**32)})
        body = _body(seeded, pictures)
        drawing = call_in_background(partial(self._request_picture, path, body, cancel))
        try:
            yield from self._watch(index, drawing, cancel)
            answer = drawing.result()
        except (GenerationCancelledError, GeneratorExit):
            if not _has_drawn(drawing):
                self._interrupt()
            raise
        images = answer.get("images") if isinstance(answer, dict) else None
        if not isinstance(images, list) or not images:
            raise GeneratorOutputError(
                f"{SERVER} returned no picture: {redacted_start(answer, 200)!r}.", retryable=True
            )
        served = read_picture_text(images[0], source=SERVER)
        info = _info(answer)
        facts = _facts(info, served.parameters)
        executed, notices = executed_request(seeded, served.image, facts, options=NAMED_OPTIONS)
        yield ImageResult(
            index=index,
            request=request,
            executed=executed,
            generator=self.name,
            model=_model(facts),
            image=served.image,
            notices=notices,
            seconds=time.monotonic() - started,
            versions={"stable-diffusion-webui": str(info["version"])} if info.get("version") else {},
        )

    def _watch(self, index: int, drawing: Future[Any], cancel: threading.Event) -> Iterator[GenerationProgress]:
        """Yield progress until the picture is done; a slow progress request does not delay the picture.

        Raises:
            GenerationCancelledError: If it was cancelled.
        """
        step = 0
        look = time.monotonic() + self._poll_s
        looking: Future[tuple[int, int] | None] | None = None
        done = threading.Event()
        drawing.add_done_callback(lambda _: done.set())
        while not done.wait(min(self._poll_s, 0.05)):
            if cancel.is_set():
                raise GenerationCancelledError("The request was cancelled.")
            if looking is None:
                if time.monotonic() >= look:
                    looking = call_in_background(self._progress)
            elif looking.done():
                progress, looking = looking.result(), None
                look = time.monotonic() + self._poll_s
                if progress and step < progress[0] <= progress[1]:
                    step = progress[0]
                    yield GenerationProgress(index, step, progress[1])

    def _progress(self) -> tuple[int, int] | None:
        """Return the steps done and the number of steps, or None if the server does not report them."""
        try:
            state = self._client.request_json(
                "GET",
                "/sdapi/v1/progress",
                params={"skip_current_image": "true"},
                timeout_s=PROGRESS_S,
                max_retries=0,
            )["state"]
            return int(state["sampling_step"]), int(state["sampling_steps"])
        except (ToolError, KeyError, TypeError, ValueError):  # a stuck progress bar is no reason to stop drawing
            return None

    def _interrupt(self) -> None:
        """Tell the server to stop; wait only until the request is probably sent."""
        asking = call_in_background(
            partial(
                self._client.request,
                "POST",
                "/sdapi/v1/interrupt",
                timeout_s=PROGRESS_S,
                max_retries=0,
            )
        )
        wait([asking], timeout=INTERRUPT_S)  # the server has no interrupt, or cannot be reached


def _has_drawn(drawing: Future[Any]) -> bool:
    return drawing.done() and drawing.exception() is None


def _explain(status: int, data: Any) -> MgemError | None:
    if status != 404:
        return None
    said = data.get("detail") if isinstance(data, dict) else None
    if said and said != "Not Found":  # the API exists, but something that the request names does not
        return UnsupportedRequestError(f"{SERVER} did not find something in the request: {redacted_start(said, 300)}")
    return GeneratorUnavailableError(
        f"{SERVER} has no API at this address (status 404). Start it with --api, and check the address."
    )


def _body(request: ImageRequest, pictures: Mapping[str, Image.Image]) -> dict[str, Any]:
    """Convert the request to the API's fields."""
    options = dict(request.options)
    settings = options.pop("override_settings", None)
    settings = dict(settings) if isinstance(settings, dict) else {}
    if checkpoint := options.pop(CHECKPOINT, None):
        settings[CHECKPOINT] = checkpoint
    body: dict[str, Any] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or "",
        "seed": request.seed,
        "batch_size": 1,
        "n_iter": 1,
        "width": request.width,
        "height": request.height,
        "steps": request.num_inference_steps,
        "cfg_scale": request.guidance_scale,
        "override_settings": settings,
    }
    if request.image is not None:
        start = pictures[request.image]
        body["init_images"] = [png_base64(start)]
        body["denoising_strength"] = request.strength
        # Without a size, the server would squeeze the start picture into its default size.
        body["width"] = request.width or _fitted(start.width)
        body["height"] = request.height or _fitted(start.height)
        if request.mask is not None:
            body["mask"] = png_base64(pictures[request.mask].convert("L"))
            body |= {"inpainting_fill": 1, "inpaint_full_res": False}
    return {name: value for name, value in body.items() if value is not None} | options


def _fitted(side: int) -> int:
    return max(64, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE)


def _info(answer: Any) -> dict[str, Any]:
    """Return the server's data about the picture, which is JSON within JSON."""
    info = answer.get("info")
    try:
        info = json.loads(info) if isinstance(info, str) else info
    except (ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def _facts(info: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that the server used, from its answer and from the metadata of the picture."""
    facts: dict[str, Any] = {}
    for ours, theirs, kind in (
        ("seed", "seed", int),
        ("num_inference_steps", "steps", int),
        ("guidance_scale", "cfg_scale", float),
        ("strength", "denoising_strength", float),
    ):
        value = info.get(theirs)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            facts[ours] = kind(value)
    for ours, theirs in (("sampler_name", "sampler_name"), ("model", "sd_model_name"), ("model_hash", "sd_model_hash")):
        if isinstance(info.get(theirs), str) and info[theirs]:
            facts[ours] = info[theirs]
    texts = info.get("infotexts")
    if isinstance(texts, list) and texts and isinstance(texts[0], str):
        facts |= facts_of_parameters(read_parameters(texts[0]))
    return facts | facts_of_parameters(parameters)


def _model(facts: Mapping[str, Any]) -> str:
    name, digest = facts.get("model"), facts.get("model_hash")
    return f"{name} [{digest}]" if name and digest else str(name or digest or "")
