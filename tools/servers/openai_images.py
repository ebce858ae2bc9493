"""Pictures from the OpenAI images API, and from every server that speaks it.

A name is `openai:MODEL`, or `openai:MODEL@ADDRESS` for a server other than the one in `OPENAI_BASE_URL` (OpenAI's own,
where that is not set). Decisions that matter:

- **The wire is spoken directly**: two end points are used, and the vendor's package would be a heavy dependency for
  them. It would also hide what other servers do differently: answers by address instead of base64, odd sizes, no JSON.
- **No seed is promised**, because OpenAI has none. Where a server takes one, or a negative prompt, steps or guidance,
  say so with `honours`, by the names of its own fields.
- **Each request is a call of its own**, a few at a time. What is cancelled is no longer waited for; the server may go
  on, and charge for it.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorRefusalError,
    GeneratorUnavailableError,
    InputError,
    MgemError,
    ToolError,
)
from mgem_agent.tools.background_call import call_in_parallel
from mgem_agent.tools.capabilities import Capabilities, Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.servers.http_client import BUSY_STATUSES, ServerClient, same_server
from mgem_agent.tools.servers.wire_pictures import decode_picture_text, png_bytes

__all__ = ["OpenAIImagesGenerator"]

DEFAULT_MODEL = "gpt-image-2"
DEFAULT_ADDRESS = "https://api.openai.com/v1"
SERVER = "The OpenAI images server"
NAME = re.compile(r"(?P<model>.*?)(?:@(?P<address>https?://.+))?", re.DOTALL)
GPT_IMAGE = re.compile(r"(chatgpt|gpt)-image")
GPT_IMAGE_OF_THREE_SIZES = re.compile(r"gpt-image-1|chatgpt-image")
RETIRED_MODELS = ("dall-e-2", "dall-e-3", "gpt-image-1")
REFUSAL_CODES = ("content_policy", "content_safety", "content_filter", "moderation_blocked", "safety_violation")
MAX_PICTURES = 16
MAX_REVISED_PROMPT_CHARS = 2000
HONOURABLE = ("negative_prompt", "seed", "num_inference_steps", "guidance_scale")
OPTIONS = frozenset(
    {
        "background", "complexity", "input_fidelity", "moderation", "output_compression", "output_format", "quality",
        "safety_identifier", "style", "user",
    }
)  # fmt: skip


class OpenAIImagesGenerator:
    """OpenAI's images API, or a server that speaks it: openai:MODEL or openai:MODEL@ADDRESS.

    Args:
        model: Name of the model, as the server knows it; after an `@`, the address of the server.
        base_url: Address of the server with its version, such as `http://127.0.0.1:8080/v1`; that in
            `OPENAI_BASE_URL`, or OpenAI's own, if not given here or with the model.
        api_key: Key; if not given, that in `OPENAI_API_KEY`, which is sent to no other server than the one in
            `OPENAI_BASE_URL` (OpenAI's own, where that is not set). Other servers may need none.
        honours: What this server honours beyond OpenAI's fields: names of an `ImageRequest`'s fields, each with the
            field of the server that takes it, such as `{"seed": "seed", "num_inference_steps": "step"}`.
        max_parallel: Calls at a time.
        timeout_s: Seconds for one picture.
        connect_timeout_s: Seconds to reach the server.
        max_retries: How often a call that met a busy server is repeated.
        backoff_s: Wait before the first repetition, in seconds.

    Raises:
        InputError: If the address is none, or `honours` names what cannot be.
    """

    CAPABILITIES = Capabilities(
        tasks=frozenset({"text_to_image", "edit", "inpaint"}),
        max_references=MAX_PICTURES - 1,
        size_multiple=16,
        max_size=3840,
        cancel=True,
        options=OPTIONS,
    )

    def __init__(
        self,
        model: str = "",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        honours: Mapping[str, str] | None = None,
        max_parallel: int = 4,
        timeout_s: float = 300.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 3,
        backoff_s: float = 0.5,
    ) -> None:
        model, address = _model_and_address(model)
        self._model = model or DEFAULT_MODEL
        self._honours = dict(honours or {})
        strange = sorted(self._honours.keys() - set(HONOURABLE))
        if strange:
            raise InputError(f"A server cannot be said to honour {strange}. Allowed: {', '.join(HONOURABLE)}.")
        if max_parallel < 1:
            raise InputError(f"max_parallel={max_parallel} calls at a time draw nothing. Give 1 or more.")
        self._max_parallel = max_parallel
        usual_address = os.environ.get("OPENAI_BASE_URL") or DEFAULT_ADDRESS
        target = address or base_url or usual_address
        is_usual_server = same_server(target, usual_address)
        self._key = api_key or (os.environ.get("OPENAI_API_KEY", "") if is_usual_server else "")
        self._client = ServerClient(
            target,
            server=SERVER,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            max_retries=max_retries,
            backoff_s=backoff_s,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            access_hint="Set OPENAI_API_KEY to a key that it accepts."
            if is_usual_server
            else "Give its key as the option api_key. The one in OPENAI_API_KEY is sent to the server in "
            "OPENAI_BASE_URL alone.",
            explain=self._explain,
            retried_statuses=BUSY_STATUSES | {500},
        )
        self._has_usual_address = self._client.address == usual_address.rstrip("/")

    @property
    def name(self) -> str:
        """Name in the registry, with the address where it is not the usual one."""
        return f"openai:{self._model}" + ("" if self._has_usual_address else f"@{self._client.address}")

    @property
    def capabilities(self) -> Capabilities:
        """What the model honours; the server is not asked."""
        honoured: dict[str, Any] = {name: True for name in self._honours}
        if GPT_IMAGE_OF_THREE_SIZES.match(self._model):
            honoured["sizes"] = ((1024, 1024), (1536, 1024), (1024, 1536))
        elif not self._is_gpt_image:
            honoured |= {"size_multiple": 8, "max_size": 8192}
        return self.CAPABILITIES.model_copy(update=honoured)

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw each request by a call of its own; the contract is that of `ImageGenerator`."""
        if not self._key and self._client.address == DEFAULT_ADDRESS:
            raise GeneratorUnavailableError(
                f"{SERVER} at {self._client.address} needs a key. Set OPENAI_API_KEY, or OPENAI_BASE_URL for another "
                f"server."
            )
        stop = cancel or threading.Event()
        drawn = call_in_parallel(
            [partial(self._draw, request, pictures or {}, stop) for request in requests],
            max_parallel=self._max_parallel,
            cancel=stop,
        )
        left = set(range(len(requests)))
        for index, future in drawn:
            left.discard(index)
            error = future.exception()
            if error is None:
                yield replace(future.result(), index=index)
                continue
            if not isinstance(error, MgemError):  # the other pictures, which may cost money, go on
                error = ToolError(f"{SERVER} was not understood ({type(error).__name__}: {error}).")
            yield self._result(requests[index], index=index, error=error)
        for index in sorted(left):
            yield self._result(
                requests[index], index=index, error=GenerationCancelledError("The drawing was cancelled.")
            )

    def unload(self) -> None:
        """Do nothing: the memory is the server's."""

    @property
    def _is_gpt_image(self) -> bool:
        return GPT_IMAGE.match(self._model) is not None

    def _draw(self, request: ImageRequest, pictures: Mapping[str, Image.Image], cancel: threading.Event) -> ImageResult:
        """Draw one picture; runs in a thread of its own."""
        started = time.monotonic()
        fields = self._fields(request)
        if request.picture_ids:
            plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
            body: dict[str, Any] = {"data": plain, "files": _picture_files(request, pictures)}
            answer = self._client.request_json("POST", "/images/edits", cancel=cancel, **body)
        else:
            answer = self._client.request_json("POST", "/images/generations", cancel=cancel, json=fields)
        item = _first_item(answer)
        if item.get("b64_json"):
            image = decode_picture_text(item["b64_json"], source=SERVER)
        elif item.get("url"):
            image = self._client.download_picture(item["url"], cancel=cancel)
        else:
            raise GeneratorOutputError(f"{SERVER} answered without a picture: {str(answer)[:200]!r}.", retryable=True)
        if (size := _size(request)) and image.size != size:
            raise GeneratorOutputError(
                f"{SERVER} was asked for {size[0]}×{size[1]} pixels and sent {image.width}×{image.height}. "
                f"Ask for a size that the model {self._model!r} draws, or for none."
            )
        revised = item.get("revised_prompt")
        notices = []
        if isinstance(revised, str) and revised.strip() and revised.strip() != request.prompt:
            notices.append(
                Notice(argument="prompt", message=f"The server drew this: {revised[:MAX_REVISED_PROMPT_CHARS]}")
            )
        executed = request.model_copy(update={"width": image.width, "height": image.height})
        return self._result(
            request,
            executed=executed,
            image=image,
            notices=tuple(notices),
            seconds=time.monotonic() - started,
        )

    def _fields(self, request: ImageRequest) -> dict[str, Any]:
        fields: dict[str, Any] = {"model": self._model, "prompt": request.prompt, "n": 1, **request.options}
        if size := _size(request):
            fields["size"] = f"{size[0]}x{size[1]}"
        if not self._is_gpt_image:
            fields["response_format"] = "b64_json"  # unknown to OpenAI's models, which give nothing else
        for name, field in self._honours.items():
            if getattr(request, name) is not None:
                fields[field] = getattr(request, name)
        return fields

    def _result(self, request: ImageRequest, **given: Any) -> ImageResult:
        fields: dict[str, Any] = {"index": 0, "executed": request, **given}
        return ImageResult(request=request, generator=self.name, model=self._model, **fields)

    def _explain(self, status: int, data: Any) -> MgemError | None:
        """Tell what OpenAI's codes mean where the status says too little."""
        error = data.get("error") if isinstance(data, dict) else None
        error = error if isinstance(error, dict) else {}
        text = " ".join(str(error.get(name) or "") for name in ("code", "type", "message"))
        message = str(error.get("message") or "no reason given")[:300]
        if any(code in text for code in REFUSAL_CODES):
            return GeneratorRefusalError(f"{SERVER} declined to draw this: {message} Word the prompt differently.")
        if "insufficient_quota" in text or "billing_hard_limit" in text:
            return GeneratorUnavailableError(f"{SERVER} has no credit left for this key: {message}")
        if self._model in RETIRED_MODELS and status in (400, 404):
            return GeneratorUnavailableError(
                f"{SERVER} no longer has the model {self._model!r}: {message} Use 'openai:{DEFAULT_MODEL}'."
            )
        return None


def _model_and_address(name: str) -> tuple[str, str | None]:
    """Part `MODEL@ADDRESS`; a model may have an `@` of its own."""
    parts = NAME.fullmatch(name)
    return (parts["model"], parts["address"]) if parts else (name, None)


def _size(request: ImageRequest) -> tuple[int, int] | None:
    """Width and height to ask for; a side that is left open is as long as the other."""
    width, height = request.width or request.height, request.height or request.width
    return (width, height) if width and height else None


def _picture_files(request: ImageRequest, pictures: Mapping[str, Image.Image]) -> list[tuple[str, Any]]:
    """The pictures of a request as parts of a form: the start picture first, then the references."""
    named = [name for name in (request.image, *request.references) if name is not None]
    field = "image" if len(named) == 1 else "image[]"
    files: list[tuple[str, Any]] = [
        (field, (f"picture-{place}.png", png_bytes(pictures[name]), "image/png")) for place, name in enumerate(named)
    ]
    if request.mask is not None and request.image is not None:
        cut = _with_holes(pictures[request.image], pictures[request.mask])
        files.append(("mask", ("mask.png", png_bytes(cut), "image/png")))
    return files


def _with_holes(image: Image.Image, mask: Image.Image) -> Image.Image:
    """A picture that is transparent where a mask is white, which is how this API is told what to redraw."""
    white = mask.convert("L").resize(image.size, Image.Resampling.NEAREST)
    holed = image.convert("RGBA")
    holed.putalpha(white.point([255] * 128 + [0] * 128))
    return holed


def _first_item(answer: Any) -> dict[str, Any]:
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(items, list) or not items or not isinstance(items[0], dict):
        raise GeneratorOutputError(f"{SERVER} answered without a picture: {str(answer)[:200]!r}.", retryable=True)
    return items[0]
