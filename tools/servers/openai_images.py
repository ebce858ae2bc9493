"""Pictures from the OpenAI images API, and from every server with this API.

A name is `openai:MODEL`, or `openai:MODEL@ADDRESS` for another server than the one in `OPENAI_BASE_URL` (by default
OpenAI's). Decisions that matter:

- **The HTTP API is called directly**: only two endpoints are used, and the vendor's package would be a heavy
  dependency. It would also hide the differences of other servers: picture URLs instead of base64, odd sizes, no JSON.
- **Seeds are not supported by default**, because OpenAI has none. If a server takes a seed, a negative prompt, steps or
  guidance, list them in `honours` with the names of its fields; if a request has no seed, the client chooses one. The
  metadata in the image file takes precedence, and identifies stable-diffusion.cpp, which then gets its own fields.
- **The model's name is only a hint**: a field that the server does not know is left out, with a notice if it matters,
  and this is remembered for the model. Pictures are kept even if their size differs.
- **Each request is its own call**, a few in parallel. A cancelled call is no longer waited for; the server may finish
  it and charge for it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from PIL import Image

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorRefusalError,
    GeneratorUnavailableError,
    InputError,
    MgemError,
    ToolError,
    UnsupportedRequestError,
)
from mgem_agent.redaction import redacted_start, remember_secret
from mgem_agent.tools.background_call import call_in_parallel
from mgem_agent.tools.capabilities import Capabilities, Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.image_usage import read_image_usage
from mgem_agent.tools.servers.executed_request import executed_request, facts_of_parameters
from mgem_agent.tools.servers.http_client import BUSY_STATUSES, ServerClient, same_server
from mgem_agent.tools.servers.openai_dialect import SD_CPP_HONOURS, dialect_of, with_extra_args
from mgem_agent.tools.servers.served_picture import ServedPicture, read_picture_text
from mgem_agent.tools.servers.web_address import may_charge
from mgem_agent.tools.servers.wire_pictures import mask_with_holes, png_bytes

__all__ = ["OpenAIImagesGenerator"]

DEFAULT_MODEL = "gpt-image-2"
DEFAULT_ADDRESS = "https://api.openai.com/v1"
SERVER = "The OpenAI images server"
NAME = re.compile(r"(?P<model>.*?)(?:@(?P<address>https?://.+))?", re.DOTALL)
GPT_IMAGE_OF_THREE_SIZES = re.compile(r"gpt-image-1|chatgpt-image")
RETIRED_MODELS = ("dall-e-2", "dall-e-3", "gpt-image-1")
REFUSAL_CODES = ("content_policy", "content_safety", "content_filter", "moderation_blocked", "safety_violation")
SILENT_FIELDS = frozenset({"n", "response_format"})
FETCH_S = 10.0
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
    """OpenAI's images API, or a server with this API: openai:MODEL or openai:MODEL@ADDRESS.

    Args:
        model: Name of the model, as the server knows it; after an `@`, the address of the server.
        base_url: Address of the server with its version, such as `http://127.0.0.1:8080/v1`; if
            neither this nor the model has one, `OPENAI_BASE_URL`, or OpenAI's.
        api_key: Key; if not given, `OPENAI_API_KEY`, which is sent only to the server in `OPENAI_BASE_URL` (by default
            OpenAI's). Other servers may need none.
        honours: What this server supports beyond OpenAI's fields: names of `ImageRequest` fields, each with the name
            of the server's field, such as `{"seed": "seed", "num_inference_steps": "step"}`; or "sd.cpp"
            for the server of stable-diffusion.cpp.
        omit: Fields that are never sent, such as `("response_format",)`. A field that the server refuses as unknown
            is left out automatically.
        max_parallel: Maximum number of parallel calls.
        timeout_s: Seconds for one picture.
        connect_timeout_s: Seconds to reach the server.
        max_retries: Maximum number of retries if the server is busy.
        backoff_s: Seconds before the first retry.

    Raises:
        InputError: If the address is not valid, or `honours` has an unknown name.
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
        honours: Mapping[str, str] | Literal["sd.cpp"] | None = None,
        omit: Sequence[str] = (),
        max_parallel: int = 4,
        timeout_s: float = 300.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 3,
        backoff_s: float = 0.5,
    ) -> None:
        model, address = _model_and_address(model)
        self._model = model or DEFAULT_MODEL
        self._honours = dict(SD_CPP_HONOURS if isinstance(honours, str) and honours == "sd.cpp" else honours or {})
        self._omit = frozenset(omit)
        strange = sorted(self._honours.keys() - set(HONOURABLE))
        if strange:
            raise InputError(f"honours has the unknown name(s) {strange}. Allowed: {', '.join(HONOURABLE)}.")
        if max_parallel < 1:
            raise InputError(f"max_parallel={max_parallel} is too low. Give 1 or more.")
        self._max_parallel = max_parallel
        usual_address = os.environ.get("OPENAI_BASE_URL") or DEFAULT_ADDRESS
        target = address or base_url or usual_address
        is_usual_server = same_server(target, usual_address)
        self._key = api_key or (os.environ.get("OPENAI_API_KEY", "") if is_usual_server else "")
        remember_secret(self._key)
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
        self._dialect = dialect_of(self._client.address, self._model)
        self._has_usual_address = self._client.address == usual_address.rstrip("/")

    @property
    def name(self) -> str:
        """Name in the registry, with the address where it is not the usual one."""
        return f"openai:{self._model}" + ("" if self._has_usual_address else f"@{self._client.address}")

    @property
    def costs_money(self) -> bool:
        """Whether the server may charge for a picture: any but this machine and private addresses."""
        return may_charge(self._client.address)

    @property
    def capabilities(self) -> Capabilities:
        """What the model supports; the server is not contacted."""
        honoured: dict[str, Any] = {name: True for name in self._all_honours}
        if GPT_IMAGE_OF_THREE_SIZES.match(self._dialect.bare_model):
            honoured["sizes"] = ((1024, 1024), (1536, 1024), (1024, 1536))
        elif not self._dialect.is_gpt_image:
            honoured |= {"size_multiple": 8, "max_size": 8192}
        return self.CAPABILITIES.model_copy(update=honoured)

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw each request in its own call, as `ImageGenerator` defines it."""
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
            if not isinstance(error, MgemError):  # the other pictures, which may cost money, are still drawn
                error = ToolError(f"{SERVER} sent an unexpected answer ({type(error).__name__}: {error}).")
            yield self._result(requests[index], index=index, error=error)
        for index in sorted(left):
            yield self._result(
                requests[index], index=index, error=GenerationCancelledError("The request was cancelled.")
            )

    def unload(self) -> None:
        """Do nothing; the model is on the server."""

    @property
    def _all_honours(self) -> dict[str, str]:
        return {**self._dialect.honours, **self._honours}

    def _draw(self, request: ImageRequest, pictures: Mapping[str, Image.Image], cancel: threading.Event) -> ImageResult:
        """Draw one picture, in its own thread."""
        started = time.monotonic()
        end = started + self._client.timeout_s
        honours = self._all_honours
        if "seed" in honours and request.seed is None:
            request = request.model_copy(update={"seed": secrets.randbelow(2**31)})
        answer, refused = self._ask(request, honours, pictures, cancel, end)
        item = _first_item(answer)
        served = self._served(item, answer, cancel, end)
        self._dialect.learn_from_picture(served.parameters)
        done, notices = _without(request, refused, honours)
        executed, differing = executed_request(done, served.image, facts_of_parameters(served.parameters), options={})
        notices += differing
        if served.is_transparent or request.options.get("background") == "transparent":
            told = (
                "The picture is partly transparent"
                if served.is_transparent
                else "A transparent background was requested"
            )
            notices += (Notice(argument="options", message=f"{told}; it is stored on white."),)
        revised = item.get("revised_prompt")
        if isinstance(revised, str) and revised.strip() and revised.strip() != request.prompt:
            notices += (
                Notice(
                    argument="prompt",
                    message=f"The server drew this prompt: {redacted_start(revised, MAX_REVISED_PROMPT_CHARS)}",
                ),
            )
        return self._result(
            request,
            executed=executed,
            image=served.image,
            notices=notices,
            usage=read_image_usage(answer),
            seconds=time.monotonic() - started,
        )

    def _ask(
        self,
        request: ImageRequest,
        honours: Mapping[str, str],
        pictures: Mapping[str, Image.Image],
        cancel: threading.Event,
        end: float,
    ) -> tuple[Any, list[str]]:
        """Request a picture, again without each field that the server refuses; return the answer and these fields."""
        refused: list[str] = []
        fields = self._fields(request, honours)
        for name in [name for name in fields if not self._dialect.takes(name)]:
            refused.append(name)
            del fields[name]
        while True:
            try:
                return self._sent(request, fields, pictures, cancel, end), refused
            except _UnknownFieldError as error:
                refused.append(error.field)
                del fields[error.field]

    def _sent(
        self,
        request: ImageRequest,
        fields: Mapping[str, Any],
        pictures: Mapping[str, Image.Image],
        cancel: threading.Event,
        end: float,
    ) -> Any:
        def explain(status: int, data: Any) -> MgemError | None:
            field = self._dialect.learn_from_refusal(status, data, fields)
            return self._explain(status, data) if field is None else _UnknownFieldError(field)

        sent = with_extra_args(fields)
        send = partial(self._client.request_json, "POST", cancel=cancel, end=end, explain=explain)
        if not request.picture_ids:
            return send("/images/generations", json=sent)
        plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in sent.items()}
        return send("/images/edits", data=plain, files=_picture_files(request, pictures))

    def _served(self, item: Mapping[str, Any], answer: Any, cancel: threading.Event, end: float) -> ServedPicture:
        """Return the picture of an answer, from base64, a data URL or a web address."""
        if item.get("b64_json"):
            return read_picture_text(item["b64_json"], source=SERVER)
        address = item.get("url")
        if isinstance(address, str) and address[:5].lower() == "data:":
            return read_picture_text(address, source=SERVER)
        if address:
            end = max(end, time.monotonic() + FETCH_S)  # the picture is drawn, so there is always some time to fetch it
            return self._client.download_picture(address, cancel=cancel, end=end)
        raise GeneratorOutputError(f"{SERVER} returned no picture: {redacted_start(answer, 200)!r}.", retryable=True)

    def _fields(self, request: ImageRequest, honours: Mapping[str, str]) -> dict[str, Any]:
        fields: dict[str, Any] = {"model": self._model, "prompt": request.prompt, "n": 1, **request.options}
        if size := _size(request):
            fields["size"] = f"{size[0]}x{size[1]}"
        if not self._dialect.is_gpt_image:
            fields["response_format"] = "b64_json"  # OpenAI's models do not accept it, and always return base64
        for name, field in honours.items():
            if getattr(request, name) is not None:
                fields[field] = getattr(request, name)
        return {name: value for name, value in fields.items() if name not in self._omit}

    def _result(self, request: ImageRequest, **given: Any) -> ImageResult:
        fields: dict[str, Any] = {"index": 0, "executed": request, **given}
        return ImageResult(request=request, generator=self.name, model=self._model, **fields)

    def _explain(self, status: int, data: Any) -> MgemError | None:
        """Return the error for one of OpenAI's error codes, or None for an unknown code."""
        error = data.get("error") if isinstance(data, dict) else None
        error = error if isinstance(error, dict) else {}
        text = " ".join(str(error.get(name) or "") for name in ("code", "type", "message"))
        message = redacted_start(error.get("message") or "no reason given", 300)
        if any(code in text for code in REFUSAL_CODES):
            return GeneratorRefusalError(f"{SERVER} declined to draw this: {message} Change the prompt.")
        if "insufficient_quota" in text or "billing_hard_limit" in text:
            return GeneratorUnavailableError(f"{SERVER} has no credit left for this key: {message}")
        if self._model in RETIRED_MODELS and status in (400, 404):
            return GeneratorUnavailableError(
                f"{SERVER} no longer has the model {self._model!r}: {message} Use 'openai:{DEFAULT_MODEL}'."
            )
        return None


class _UnknownFieldError(UnsupportedRequestError):
    """A field that the server does not know.

    Args:
        field: Its name.
    """

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"{SERVER} does not know the field {field!r}.")


def _without(
    request: ImageRequest, refused: Sequence[str], honours: Mapping[str, str]
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """Return a request without the refused fields, and a notice for each that matters."""
    changes: dict[str, Any] = {}
    notices = []
    ours = {field: name for name, field in honours.items()}
    for field in refused:
        if field in SILENT_FIELDS:
            continue
        argument = "width" if field == "size" else ours.get(field, "options")
        if argument not in ("width", "options"):
            changes[argument] = None
        message = f"The server does not know {field!r}; it was left out."
        notices.append(Notice(argument=argument, message=message))
    changes["options"] = {name: value for name, value in request.options.items() if name not in refused}
    return request.model_copy(update=changes), tuple(notices)


def _model_and_address(name: str) -> tuple[str, str | None]:
    """Split `MODEL@ADDRESS`; the name of a model may contain an `@`, too."""
    parts = NAME.fullmatch(name)
    return (parts["model"], parts["address"]) if parts else (name, None)


def _size(request: ImageRequest) -> tuple[int, int] | None:
    """Return the width and height; a missing side is as long as the other."""
    width, height = request.width or request.height, request.height or request.width
    return (width, height) if width and height else None


def _picture_files(request: ImageRequest, pictures: Mapping[str, Image.Image]) -> list[tuple[str, Any]]:
    """Return the pictures of a request as form parts: the start picture, then the references."""
    named = [name for name in (request.image, *request.references) if name is not None]
    field = "image" if len(named) == 1 else "image[]"
    files: list[tuple[str, Any]] = [
        (field, (f"picture-{place}.png", png_bytes(pictures[name]), "image/png")) for place, name in enumerate(named)
    ]
    if request.mask is not None and request.image is not None:
        cut = mask_with_holes(pictures[request.image], pictures[request.mask])
        files.append(("mask", ("mask.png", png_bytes(cut), "image/png")))
    return files


def _first_item(answer: Any) -> dict[str, Any]:
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(items, list) or not items or not isinstance(items[0], dict):
        raise GeneratorOutputError(f"{SERVER} returned no picture: {redacted_start(answer, 200)!r}.", retryable=True)
    return items[0]
