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
- **Each request is its own call**, a few in parallel, unless `max_n` allows one call for requests that differ in their
  seeds only. Pictures that such a call does not return are requested one by one. A cancelled call is no longer waited
  for; the server may finish it and charge for it.
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
from typing import Any

from PIL import Image

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorRefusalError,
    GeneratorTimeoutError,
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
from mgem_agent.tools.servers.images_server_kind import find_server_kind
from mgem_agent.tools.servers.images_wire import answered_items, picture_files, picture_size, without_fields
from mgem_agent.tools.servers.openai_dialect import dialect_of, with_extra_args
from mgem_agent.tools.servers.picture_groups import group_requests
from mgem_agent.tools.servers.served_picture import ServedPicture, read_picture_text
from mgem_agent.tools.servers.web_address import may_charge

__all__ = ["OpenAIImagesGenerator"]

DEFAULT_MODEL = "gpt-image-2"
DEFAULT_ADDRESS = "https://api.openai.com/v1"
SERVER = "The OpenAI images server"
NAME = re.compile(r"(?P<model>.*?)(?:@(?P<address>https?://.+))?", re.DOTALL)
GPT_IMAGE_OF_THREE_SIZES = re.compile(r"gpt-image-1|chatgpt-image")
RETIRED_MODELS = ("dall-e-2", "dall-e-3", "gpt-image-1")
REFUSAL_CODES = ("content_policy", "content_safety", "content_filter", "moderation_blocked", "safety_violation")
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
            of the server's field, such as `{"seed": "seed", "num_inference_steps": "step"}`; or the server's program:
            "sd.cpp" (stable-diffusion.cpp), "sglang" (SGLang-Diffusion) or "vllm-omni".
        omit: Fields that are never sent, such as `("response_format",)`. A field that the server refuses as unknown
            is left out automatically.
        max_parallel: Maximum number of parallel calls.
        max_n: Most pictures of one call (`n`), for requests that differ in their seeds only. Where the server honours
            seeds, only SGLang's calls have several pictures, as its pictures have consecutive seeds.
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
        honours: Mapping[str, str] | str | None = None,
        omit: Sequence[str] = (),
        max_parallel: int = 4,
        max_n: int = 1,
        timeout_s: float = 300.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 3,
        backoff_s: float = 0.5,
    ) -> None:
        model, address = _model_and_address(model)
        self._model = model or DEFAULT_MODEL
        self._kind = find_server_kind(honours) if isinstance(honours, str) else None
        table = self._kind.honours if self._kind is not None else honours
        self._honours: dict[str, str] = dict(table) if isinstance(table, Mapping) else {}
        self._omit = frozenset(omit)
        strange = sorted(self._honours.keys() - set(HONOURABLE))
        if strange:
            raise InputError(f"honours has the unknown name(s) {strange}. Allowed: {', '.join(HONOURABLE)}.")
        if max_parallel < 1:
            raise InputError(f"max_parallel={max_parallel} is too low. Give 1 or more.")
        if max_n < 1:
            raise InputError(f"max_n={max_n} is too low. Give 1 or more.")
        self._max_parallel = max_parallel
        self._max_n = min(max_n, self._kind.max_n if self._kind else max_n)
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
        if self._kind is not None:
            unsupported = dict(self._kind.unsupported)
            honoured |= {"unsupported": unsupported, "tasks": self.CAPABILITIES.tasks - unsupported.keys()}
            if self._kind.options is not None:
                honoured["options"] = self._kind.options
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
        if self._honours_seeds:  # else the server could use one seed for all
            requests = [_seeded(request) for request in requests]
        groups = group_requests(
            requests,
            max_n=self._max_n,
            honours_seeds=self._honours_seeds,
            has_consecutive_seeds=self._kind is not None and self._kind.has_consecutive_seeds,
        )
        drawn = call_in_parallel(
            [partial(self._draw_group, [requests[place] for place in group], pictures or {}, stop) for group in groups],
            max_parallel=self._max_parallel,
            cancel=stop,
        )
        left = set(range(len(requests)))
        for number, future in drawn:
            group = groups[number]
            left.difference_update(group)
            error = future.exception()
            if error is None:
                for place, result in zip(group, future.result(), strict=True):
                    yield replace(result, index=place)
                continue
            if not isinstance(error, MgemError):  # the other pictures, which may cost money, are still drawn
                error = ToolError(f"{SERVER} sent an unexpected answer ({type(error).__name__}: {error}).")
            for place in group:
                yield self._result(requests[place], index=place, error=error)
        for index in sorted(left):
            yield self._result(
                requests[index], index=index, error=GenerationCancelledError("The request was cancelled.")
            )

    def unload(self) -> None:
        """Do nothing; the model is on the server."""

    @property
    def _all_honours(self) -> dict[str, str]:
        return {**self._dialect.honours, **self._honours}

    @property
    def _honours_seeds(self) -> bool:
        return "seed" in self._all_honours

    def _draw_group(
        self, requests: Sequence[ImageRequest], pictures: Mapping[str, Image.Image], cancel: threading.Event
    ) -> list[ImageResult]:
        """Draw requests that differ in their seeds only, in one call; those that it does not return one by one."""
        if len(requests) == 1:
            return self._draw(requests, pictures, cancel)
        try:
            drawn = self._draw(requests, pictures, cancel)
        except (GenerationCancelledError, GeneratorTimeoutError, GeneratorUnavailableError):
            raise
        except MgemError:  # one of them is at fault, or so many at once
            drawn = []
        for request in requests[len(drawn) :]:
            try:
                drawn += self._draw([request], pictures, cancel)
            except MgemError as error:
                drawn.append(self._result(request, error=error))
        return drawn

    def _draw(
        self, requests: Sequence[ImageRequest], pictures: Mapping[str, Image.Image], cancel: threading.Event
    ) -> list[ImageResult]:
        """Draw pictures in one call, in its own thread; return those of the first requests, as many as it returned."""
        started = time.monotonic()
        end = started + self._client.timeout_s
        honours = self._all_honours
        answer, refused = self._ask(requests, honours, pictures, cancel, end)
        results: list[ImageResult] = []
        for request, item in zip(requests, answered_items(answer), strict=False):
            try:
                served = self._served(item, answer, cancel, end)
            except GeneratorOutputError:
                if not results:
                    raise
                break  # the rest is requested again
            seconds = (time.monotonic() - started) / len(requests)
            given: dict[str, Any] = {"usage": None if results else read_image_usage(answer), "seconds": seconds}
            results.append(self._drawn(request, served, item, refused, honours, given))
        return results

    def _drawn(
        self,
        request: ImageRequest,
        served: ServedPicture,
        item: Mapping[str, Any],
        refused: Sequence[str],
        honours: Mapping[str, str],
        given: Mapping[str, Any],
    ) -> ImageResult:
        """Return the result of one picture of an answer."""
        self._dialect.learn_from_picture(served.parameters)
        done, notices = without_fields(request, refused, honours)
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
        return self._result(request, executed=executed, image=served.image, notices=notices, **given)

    def _ask(
        self,
        requests: Sequence[ImageRequest],
        honours: Mapping[str, str],
        pictures: Mapping[str, Image.Image],
        cancel: threading.Event,
        end: float,
    ) -> tuple[Any, list[str]]:
        """Request pictures, again without each field that the server refuses; return the answer and these fields."""
        refused: list[str] = []
        request = requests[0]
        fields = self._fields(request, honours)
        if "n" in fields:
            fields["n"] = len(requests)
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
        return send("/images/edits", data=plain, files=picture_files(request, pictures))

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
        if size := picture_size(request):
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
        if status == 408:  # Ray Serve's time limit
            return GeneratorTimeoutError(
                f"{SERVER} stopped the request at its own time limit (status 408). Raise the limit there "
                "(Ray Serve: request_timeout_s of http_options), or request a smaller picture."
            )
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


def _model_and_address(name: str) -> tuple[str, str | None]:
    """Split `MODEL@ADDRESS`; the name of a model may contain an `@`, too."""
    parts = NAME.fullmatch(name)
    return (parts["model"], parts["address"]) if parts else (name, None)


def _seeded(request: ImageRequest) -> ImageRequest:
    """Return a request with a seed."""
    return request if request.seed is not None else request.model_copy(update={"seed": secrets.randbelow(2**31)})
