from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
    InputError,
    MgemError,
    UnsupportedRequestError,
)
from mgem_agent.tools.servers import http_client
from mgem_agent.tools.servers.http_client import ServerClient


def client(address: str, **options: Any) -> ServerClient:
    settings: dict[str, Any] = {"timeout_s": 5.0, "max_retries": 2, "backoff_s": 0.001, **options}
    return ServerClient(address, server="The toy server", **settings)


def test_a_busy_server_is_asked_again(server: Any, reply: Any) -> None:
    answers = [reply(429, headers={"Retry-After": "0.05"}), reply(503), {"ok": True}]
    server.answer = lambda call: answers.pop(0)
    began = time.monotonic()
    assert client(server.url).request_json("GET", "/x") == {"ok": True}
    assert time.monotonic() - began >= 0.05
    assert len(server.calls) == 3


def test_a_date_is_a_pause_too(server: Any, reply: Any) -> None:
    answers = [reply(429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), {"ok": True}]
    server.answer = lambda call: answers.pop(0)
    assert client(server.url).request_json("GET", "/x") == {"ok": True}


def test_a_long_pause_is_not_sat_out(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(429, b"slow down", headers={"Retry-After": "3600"})
    with pytest.raises(GeneratorUnavailableError, match="too busy .*slow down. Try again after '3600', as it requests"):
        client(server.url).request_json("GET", "/x")
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "message", "num_calls"),
    [
        (401, b"", GeneratorUnavailableError, "refused access .*Check the name and password", 1),
        (404, b'{"detail":"Not Found"}', GeneratorUnavailableError, "does not know GET /x .*Not Found. Check", 1),
        (400, b'{"error":{"message":"size?"}}', UnsupportedRequestError, "does not accept the request .*: size?", 1),
        (500, b'{"errors":"CUDA out of memory"}', GeneratorOutputError, "failed .*CUDA out of memory. Its log", 1),
        (503, b"<html><body>x", GeneratorUnavailableError, "too busy .*: an HTML page", 3),
        (302, b"", GeneratorUnavailableError, "redirects GET /x to https://elsewhere/. Give the final address", 1),
    ],
)
def test_a_status_is_an_error_in_words(
    server: Any, reply: Any, status: int, body: bytes, kind: type[MgemError], message: str, num_calls: int
) -> None:
    server.answer = lambda call: reply(status, body, headers={"Location": "https://elsewhere/"})
    with pytest.raises(kind, match=message):
        client(server.url).request_json("GET", "/x")
    assert len(server.calls) == num_calls


@pytest.mark.parametrize(
    ("body", "described"),
    [
        (b"<!DOCTYPE html><title>Gateway</title>", "an HTML page"),
        (b"", "nothing"),
        (b"{'a': 1}", "\"{'a': 1}\""),
        (b"[" * 200_000, "'\\[\\[\\["),
    ],
)
def test_what_is_no_json_is_described(server: Any, body: bytes, described: str) -> None:
    server.answer = lambda call: body
    with pytest.raises(GeneratorOutputError, match=f"answered GET /x with {described}.*, not JSON"):
        client(server.url).request_json("GET", "/x")


def test_a_server_that_hangs_is_given_up_once(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(hang=True)
    with pytest.raises(GeneratorTimeoutError, match="did not answer within 0.1 s. .*option timeout_s") as caught:
        client(server.url, timeout_s=0.1).request_json("POST", "/x", json={})
    assert caught.value.retryable
    assert len(server.calls) == 1


def test_a_broken_answer_is_asked_for_again(server: Any, reply: Any) -> None:
    answers = [reply(body=b'{"a": 1}', cut=3), {"a": 2}]
    server.answer = lambda call: answers.pop(0)
    assert client(server.url).request_json("GET", "/x") == {"a": 2}


def test_half_an_answer_each_time(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(body=b'{"a": 1}', cut=3)
    with pytest.raises(GeneratorUnavailableError, match="did not complete its answer"):
        client(server.url).request_json("GET", "/x")
    assert len(server.calls) == 3


def test_nobody_listens(server: Any) -> None:
    address = server.url
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(
        GeneratorUnavailableError, match=r"at http://127.0.0.1:\d+ cannot be reached .*Start it"
    ) as caught:
        client(address).request_json("GET", "/x")
    assert caught.value.retryable


def test_the_wait_for_the_next_attempt_ends_with_cancel(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(503)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(GenerationCancelledError):
        client(server.url, backoff_s=20).request_json("GET", "/x", cancel=cancel)


def test_pictures_are_fetched_from_web_addresses_alone(server: Any, png: Any) -> None:
    server.answer = lambda call: png()
    assert client(server.url).download_picture(f"{server.url}/a.png?signed=a%2Fb/").image.size == (64, 48)
    assert (server.calls[-1].path, server.calls[-1].query) == ("/a.png", "signed=a%2Fb/")
    for url in ("file:///etc/passwd", "ftp://h/x", "data:image/png;base64,xx"):
        with pytest.raises(GeneratorOutputError, match="http and https alone are followed"):
            client(server.url).download_picture(url)


def test_a_key_is_not_sent_elsewhere(server: Any, png: Any) -> None:
    server.answer = lambda call: png()
    keyed = client(server.url, headers={"Authorization": "Bearer secret"})
    keyed.download_picture(f"{server.url}/a.png")
    keyed.request_picture("/a.png")
    assert ["Authorization" in call.headers for call in server.calls] == [False, True]


def test_a_picture_that_is_too_large_is_cut_off(server: Any, png: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_PICTURE_BYTES", 50)
    server.answer = lambda call: png()
    with pytest.raises(GeneratorOutputError, match="more than 50 bytes"):
        client(server.url).request_picture("/a.png")


def test_half_a_picture_is_no_picture(server: Any, png: Any) -> None:
    server.answer = lambda call: png()[:-40]
    with pytest.raises(GeneratorOutputError, match="sent an invalid picture: .*cut off or damaged"):
        client(server.url).request_picture("/a.png")


def test_a_password_logs_in_and_is_not_shown(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(404)
    known = client(server.url.replace("//", "//ann:s3cret@"))
    with pytest.raises(GeneratorUnavailableError) as caught:
        known.request_json("GET", "/x")
    assert server.calls[0].headers["Authorization"] == "Basic YW5uOnMzY3JldA=="
    assert "s3cret" not in str(caught.value) + known.address


@pytest.mark.parametrize("address", ["", "ftp://host", "http://", "http://h:99999999"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InputError, match="is not a web address. Give one such as"):
        client(address)


def test_a_password_is_not_shown_even_so() -> None:
    with pytest.raises(InputError, match=r"^'http://ann:\(hidden\)@h:99999' is not a web address"):
        client("http://ann:s3cret@h:99999")


def test_a_scheme_may_be_left_out() -> None:
    assert client("127.0.0.1:8188/").address == "http://127.0.0.1:8188"


def test_half_characters_are_replaced(server: Any) -> None:
    server.answer = lambda call: rb'{"model": "a\ud83db", "fox": "\ud83e\udd8a"}'
    assert client(server.url).request_json("GET", "/x") == {"model": "a?b", "fox": "🦊"}
