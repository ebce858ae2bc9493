"""Each request is logged, counted and traced, without what it contains."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from mgem_agent.errors import MgemError
from mgem_agent.server.request_log import JsonFormatter, configure_log
from mgem_agent.testing import FlatColourGenerator


def ask(text: str = "Draw.", **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **options}


async def test_the_metrics(open_service: Any, client_of: Any) -> None:
    generator = FlatColourGenerator(size=(16, 16), fail_on="dog")
    service = open_service(["Two: <h> a fox </h> <h> a dog </h>"], generator)
    async with client_of(service) as client:
        await client.post("/v1/chat/completions", json=ask())
        await client.post("/v1/chat/completions", json=ask(stream=True))
        await client.post("/v1/chat/completions", json={})
        await client.get("/pictures/img-0123456789ab")
        text = (await client.get("/metrics")).text
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["mgem_turns_total", "chat", "finished"] == 2
    assert values["mgem_pictures_total", "drawn", "flat"] == 2
    assert values["mgem_pictures_total", "failed", "flat"] == 2
    assert values["mgem_picture_seconds_count", "flat"] == 2
    assert values["mgem_answers_total", "finished"] == 2
    assert values["mgem_tokens_total", "input"] == 2
    assert values["mgem_tokens_total", "output"] > 10
    assert values["mgem_requests_total", "/v1/chat/completions", "200", "POST"] == 2
    assert values["mgem_requests_total", "/v1/chat/completions", "400", "POST"] == 1
    assert values["mgem_requests_total", "/pictures/{picture_id}", "404", "GET"] == 1
    assert values["mgem_jobs_running",] == values["mgem_jobs_waiting",] == 0
    assert "Draw" not in text and "fox" not in text


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server logs as JSON."""
    logs = [logging.getLogger(name) for name in ("mgem_agent", "uvicorn")]
    before = [(each.handlers, each.level, each.propagate) for each in logs]
    configure_log("json")
    [handler] = logs[0].handlers
    file = io.StringIO()
    assert isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, JsonFormatter)
    handler.setStream(file)
    yield file
    for each, (handlers, level, propagate) in zip(logs, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


async def test_the_log_as_json(open_service: Any, client_of: Any, log: io.StringIO) -> None:
    def fail(request: Any) -> str:
        raise ValueError("oh no")

    async with client_of(open_service([fail])) as client:
        await client.get("/v1/models?token=abc")
        await client.get("/health")
        answer = await client.post("/v1/chat/completions", json=ask("my secret plan"))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    first, failed, last = lines
    assert (first["method"], first["route"], first["status"], first["user"]) == ("GET", "/v1/models", 200, "local")
    assert first["level"] == "info" and first["seconds"] >= 0
    assert "ValueError: oh no" in failed["exception"] and failed["level"] == "error"
    assert (last["status"], last["request_id"]) == (500, answer.headers["x-request-id"])
    assert "secret" not in log.getvalue() and "abc" not in log.getvalue()


class Collector:
    """A collector on this machine that keeps the spans it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                collector.keep(ExportTraceServiceRequest.FromString(data))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def keep(self, request: Any) -> None:
        for resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(named["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]


async def test_spans_by_the_usual_variables(open_service: Any, client_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server.server_port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "foxes")
    trace = "0af7651916cd43dd8448eb211c80319c"
    for stream in (False, True):
        service = open_service(["Here. <h> a fox </h>"])
        async with client_of(service) as client:
            headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            await client.post("/v1/chat/completions", json=ask("secret", stream=stream), headers=headers)
    collector.server.shutdown()
    collector.server.server_close()
    assert collector.services == {"foxes"}
    assert {span.trace_id.hex() for span in collector.spans} == {trace}
    roots = [span for span in collector.spans if span.name == "POST /v1/chat/completions"]
    assert [root.parent_span_id.hex() for root in roots] == ["b7ad6b7169203331"] * 2
    for root in roots:
        children = {span.name for span in collector.spans if span.parent_span_id == root.span_id}
        assert children == {"chat scripted", "draw flat"}
    assert "secret" not in str(collector.spans) and "fox" not in str([span.attributes for span in collector.spans])


def test_no_variable_means_no_spans(open_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not open_service().tracing.is_on
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not open_service().tracing.is_on


def test_an_error_in_the_log_has_no_password() -> None:
    record = logging.LogRecord("a", 40, "", 1, "at http://me:passw0rd@host/", None, None)
    assert "passw0rd" not in JsonFormatter().format(record)
    assert "passw0rd" not in str(MgemError("http://me:passw0rd@host/"))
