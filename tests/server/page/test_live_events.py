"""Server-sent events of a run, and that an open page does not keep a server from stopping."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn
from sse_starlette.sse import AppStatus

from mgem_agent.server.app import create_app
from mgem_agent.server.security import LOCAL_USER
from mgem_agent.server.serving import GracefulServer
from mgem_agent.testing import FlatColourGenerator


def test_an_open_page_does_not_keep_a_server_from_stopping(
    open_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AppStatus, "should_exit", False)  # a signal sets it for every server of this process
    generator = FlatColourGenerator(size=(16, 16), delay_s=60, num_steps=600)
    service = open_service(script=["<h> a fox </h>"], generator=generator, drain_s=0)
    ready, address = threading.Event(), []
    config = uvicorn.Config(create_app(service), host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = GracefulServer(config, service, lambda url: (address.append(url), ready.set()))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    with httpx.Client(base_url=address[0], timeout=60) as client:
        chat = client.post("/chats", data={"text": "Draw."}).headers["location"]
        with client.stream("GET", f"{chat}/events") as events:
            lines = events.iter_lines()
            while "Step 2 of 600" not in next(lines):
                pass
            started = time.monotonic()
            server.handle_exit(signal.SIGTERM, None)
            with contextlib.suppress(
                httpx.RemoteProtocolError
            ):  # the stream ends in the middle; a browser connects again
                for _ in lines:
                    pass
            thread.join(60)
    assert not thread.is_alive() and time.monotonic() - started < 30
    records = service.sessions(LOCAL_USER).turns(chat.rpartition("/")[2])
    assert [record["outcome"] for record in records] == ["cancelled"]
    with socket.socket() as trial:
        assert trial.connect_ex(("127.0.0.1", int(address[0].rpartition(":")[2]))) != 0
