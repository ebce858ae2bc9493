"""One prompt in ComfyUI's queue: add it, follow it, and remove it if it is cancelled."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import wait
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
    UnsupportedRequestError,
)
from mgem_agent.redaction import redacted_start
from mgem_agent.tools.background_call import call_in_background
from mgem_agent.tools.servers.http_client import ServerClient
from mgem_agent.tools.servers.web_address import is_this_machine

__all__ = ["ComfyUIQueue"]

OPEN_S = 5.0
CLOSE_S = 0.2
ASK_S = 10.0
WITHDRAW_S = 2.0
SETTLE_S = 5.0
MIN_LOOK_S = 1.0
LOOKS_BETWEEN_QUEUES = 10
MAX_MESSAGE_BYTES = 32 * 2**20

Step = tuple[int, int]
Ask = Callable[..., Any]


class ComfyUIQueue:
    """The queue of a ComfyUI server.

    Args:
        client: Talks to the server; its `timeout_s` is also the limit for a prompt.
        poll_s: Seconds of silence after which the history is polled.
    """

    def __init__(self, client: ServerClient, *, poll_s: float) -> None:
        self._client = client
        self._poll_s = poll_s

    def run(
        self, nodes: Mapping[str, Any], cancel: threading.Event, *, end: float
    ) -> Generator[Step | dict[str, Any], None, None]:
        """Run a workflow.

        Args:
            nodes: The workflow in API format, slots filled.
            cancel: Set to stop.
            end: Deadline, by `time.monotonic()`.

        Yields:
            The steps done and their total; at the end, the outputs of each node.

        Raises:
            MgemError: If the workflow is not accepted, fails, is interrupted or takes too long.
        """
        client_id = uuid.uuid4().hex
        # Servers since 2025 accept an id from the client, so the prompt can be removed even if the answer is lost.
        prompt_id = str(uuid.uuid4())
        with ExitStack() as stack:
            # Connect first, so that no message is missed.
            socket = self._listen(client_id, stack, end)
            outputs: dict[str, Any] | None = None
            is_queued = True
            try:
                try:
                    answer = self._client.request_json(
                        "POST",
                        "/prompt",
                        json={"prompt": nodes, "client_id": client_id, "prompt_id": prompt_id},
                        cancel=cancel,
                        end=end,
                    )
                except (UnsupportedRequestError, GeneratorUnavailableError):
                    is_queued = False
                    raise
                prompt_id = _name_of(answer)
                for event in self._watch(prompt_id, socket, cancel, end):
                    if isinstance(event, dict):
                        outputs = event
                    yield event
            finally:
                if outputs is None and is_queued:
                    self._withdraw(prompt_id)

    def _listen(self, client_id: str, stack: ExitStack, end: float) -> ClientConnection | None:
        """Open the websocket; None if that fails."""
        address = f"ws{self._client.address.removeprefix('http')}/ws?clientId={client_id}"
        headers = {"Authorization": self._client.authorization} if self._client.authorization else {}
        try:
            return stack.enter_context(
                connect(
                    address,
                    additional_headers=headers,
                    open_timeout=max(min(OPEN_S, end - time.monotonic()), CLOSE_S),
                    close_timeout=CLOSE_S,
                    compression=None,
                    max_size=MAX_MESSAGE_BYTES,
                    proxy=None if is_this_machine(urlsplit(address).hostname or "") else True,
                )
            )
        except (OSError, WebSocketException):
            return None

    def _watch(
        self, prompt_id: str, socket: ClientConnection | None, cancel: threading.Event, end: float
    ) -> Iterator[Step | dict[str, Any]]:
        """Yield the progress of a prompt, and its outputs at the end."""
        looks = 0
        next_look = time.monotonic() + MIN_LOOK_S
        while not cancel.is_set():
            if time.monotonic() > end:
                raise GeneratorTimeoutError(
                    f"ComfyUI at {self._client.address} did not finish within {self._client.timeout_s:g} s. "
                    f"Check whether its queue is long, or raise the option timeout_s.",
                    retryable=True,
                )
            kind = "silence"
            data: dict[str, Any] = {}
            if socket is None:
                cancel.wait(self._poll_s)
            else:
                try:
                    kind, data = _message(socket.recv(timeout=self._poll_s), prompt_id)
                except TimeoutError:
                    pass  # silence
                except (OSError, WebSocketException):
                    socket = None
            if kind == "progress":
                if step := _step(data):
                    yield step
            # Messages about other prompts may come without a pause.
            elif kind in ("silence", "over") or time.monotonic() > next_look:
                looks += 1
                next_look = time.monotonic() + MIN_LOOK_S
                ask = partial(self._client.request_json, cancel=cancel, end=end)
                outputs = None
                with suppress(GeneratorTimeoutError):  # the next poll may succeed
                    outputs = self._outputs(
                        prompt_id, ask, is_over=kind == "over", ask_queue=looks % LOOKS_BETWEEN_QUEUES == 0
                    )
                if outputs is not None:
                    yield outputs
                    return
        raise GenerationCancelledError("The request was cancelled.")

    def _outputs(self, prompt_id: str, ask: Ask, *, is_over: bool, ask_queue: bool) -> dict[str, Any] | None:
        """Return the outputs of a finished prompt, or None if it is not finished."""
        end = time.monotonic() + (SETTLE_S if is_over else 0)
        while (entry := _history(ask, prompt_id)) is None and time.monotonic() < end:
            time.sleep(0.02)  # the end is announced shortly before the history has it
        if entry is None and (is_over or (ask_queue and prompt_id not in _queued(ask))):
            # It may have ended between the two requests.
            entry = _history(ask, prompt_id)
            if entry is None:
                raise GeneratorOutputError(
                    f"ComfyUI at {self._client.address} no longer knows the prompt. It may have been restarted, or "
                    f"its queue was cleared; draw again.",
                    retryable=True,
                )
        if entry is None:
            return None
        status = entry.get("status")
        status = status if isinstance(status, dict) else {}
        if status.get("status_str") == "error":
            for message in status.get("messages") or ():
                if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict):
                    _raise_failure(message[0], message[1])
            raise _failed({})
        outputs = entry.get("outputs")
        return outputs if isinstance(outputs, dict) else {}

    def _withdraw(self, prompt_id: str) -> None:
        """Remove a prompt from the queue, or interrupt it if it runs; do not wait for a server that does not answer."""
        wait([call_in_background(partial(self._take_out, prompt_id))], timeout=WITHDRAW_S)

    def _take_out(self, prompt_id: str) -> None:
        end = time.monotonic() + ASK_S
        self._client.request("POST", "/queue", json={"delete": [prompt_id]}, end=end, is_free=True)
        # Older servers interrupt any running prompt, so check that it is this one.
        if prompt_id in _queued(partial(self._client.request_json, end=end), "queue_running"):
            self._client.request("POST", "/interrupt", json={"prompt_id": prompt_id}, end=end, is_free=True)


def _history(ask: Ask, prompt_id: str) -> dict[str, Any] | None:
    history = ask("GET", f"/history/{prompt_id}", timeout_s=ASK_S)
    entry = history.get(prompt_id) if isinstance(history, dict) else None
    return entry if isinstance(entry, dict) else None


def _queued(ask: Ask, part: str = "") -> set[str]:
    """Return the ids of the prompts that wait or run, or of one part of the queue."""
    queue = ask("GET", "/queue", timeout_s=ASK_S, max_retries=0)
    parts = [part] if part else ["queue_running", "queue_pending"]
    items = [item for name in parts for item in (queue.get(name) if isinstance(queue, dict) else None) or ()]
    return {item[1] for item in items if isinstance(item, list) and len(item) > 1 and isinstance(item[1], str)}


def _name_of(answer: Any) -> str:
    prompt_id = answer.get("prompt_id") if isinstance(answer, dict) else None
    if not isinstance(prompt_id, str):
        raise GeneratorOutputError(
            f"ComfyUI accepted a workflow but returned no id for it: {redacted_start(answer, 200)!r}."
        )
    return prompt_id


def _message(text: str | bytes, prompt_id: str) -> tuple[str, dict[str, Any]]:
    """Classify a message about a prompt: "progress" with its data, "over", or "other".

    Raises:
        MgemError: If the message reports that the prompt failed.
    """
    try:
        message = json.loads(text) if isinstance(text, str) else None  # bytes are previews
    except (ValueError, RecursionError):
        message = None
    data = message.get("data") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(data, dict) or data.get("prompt_id") != prompt_id:
        return "other", {}
    kind = message.get("type")
    if kind == "execution_success" or (kind == "executing" and data.get("node") is None):
        return "over", {}
    _raise_failure(kind, data)
    return ("progress" if kind == "progress" else "other"), data


def _raise_failure(kind: object, data: Mapping[str, Any]) -> None:
    """Raise an error if a message of this kind reports a failure."""
    if kind == "execution_interrupted":
        raise GenerationCancelledError("The request was interrupted on the server.")
    if kind == "execution_error":
        raise _failed(data)


def _failed(data: Mapping[str, Any]) -> GeneratorOutputError:
    node, kind = data.get("node_id"), data.get("node_type")
    reason = redacted_start(" ".join(str(data.get("exception_message") or "no reason given").split()), 500).rstrip(".")
    where = f"in node {node!r} ({kind}): " if node is not None else ""
    return GeneratorOutputError(f"ComfyUI failed {where}{reason}. Its log says more.", retryable=True)


def _step(data: Mapping[str, Any]) -> Step | None:
    step, num_steps = data.get("value"), data.get("max")
    if isinstance(step, int) and isinstance(num_steps, int) and 0 < step <= num_steps:
        return step, num_steps
    return None
