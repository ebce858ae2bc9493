"""OpenTelemetry spans, configured by the usual environment variables.

Spans are sent if `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, or
`OTEL_TRACES_EXPORTER` is `otlp` or `console`. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
`OTEL_EXPORTER_OTLP_HEADERS` and the other variables of the SDK apply. Prompts and answers are never part of a span.
"""

from __future__ import annotations

import os

from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import NoOpTracer, Span, SpanKind, Status, StatusCode, Tracer
from starlette.datastructures import Headers

from mgem_agent import __version__

__all__ = ["Tracing", "end_span", "open_tracing"]

NAME = "mgem-agent"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Makes spans; without a provider, spans that do nothing.

    Args:
        provider: The SDK's provider; None to send nothing.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self.tracer: Tracer = NoOpTracer() if provider is None else provider.get_tracer(NAME, __version__)

    @property
    def is_on(self) -> bool:
        """Whether spans are sent."""
        return self._provider is not None

    def request_span(self, method: str, headers: Headers) -> Span:
        """Return the span of an HTTP request, as a child of the client's span if the request names one.

        Args:
            method: HTTP method.
            headers: Headers of the request; `traceparent` names the client's span.
        """
        attributes = {"http.request.method": method}
        return self.tracer.start_span(
            method, context=extract(dict(headers)), kind=SpanKind.SERVER, attributes=attributes
        )

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


def end_span(span: Span, error: BaseException | None = None) -> None:
    """End a span.

    Args:
        span: The span.
        error: Why it failed; only the name of its class is recorded.
    """
    if error is not None:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def open_tracing() -> Tracing:
    """Return the tracing that the environment asks for."""
    kind = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    is_named = any(os.environ.get(name) for name in ENDPOINTS) or "OTEL_TRACES_EXPORTER" in os.environ
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not is_named or kind not in ("otlp", "console"):
        return Tracing()
    provider = TracerProvider(resource=Resource.create({"service.version": __version__} | _default_name()))
    if kind == "console":
        provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _default_name() -> dict[str, str]:
    """Return the service's name, unless the environment has one."""
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {} if named else {"service.name": NAME}
