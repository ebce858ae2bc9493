"""The server's metrics in Prometheus' form: `GET /metrics`.

Each server has a registry of its own. Labels have few values: no prompt, no picture and no user is among them.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from mgem_agent.errors import GenerationCancelledError
from mgem_agent.tools.image_result import ImageResult

__all__ = ["Metrics", "metrics_router"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counts what the server does.

    Attributes:
        requests: HTTP requests by method, route and status.
        request_s: Their seconds by route.
        jobs: Jobs by kind and outcome.
        job_s: Seconds that jobs ran, by kind.
        wait_s: Seconds that jobs waited.
        pictures: Pictures by generator and outcome.
        picture_s: Seconds of drawing a picture, by generator; in a batch, its share.
        batches: Number of pictures in a batch, by generator.
        answers: Answers of the reasoner by outcome.
        answer_s: Seconds of an answer.
        tokens: Tokens of the reasoner by kind: `input`, `output`, `image` and `cached`; the last two are part of
            `input`.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("mgem_requests", "HTTP requests.", ["method", "route", "status"], registry=registry)
        self.request_s = Histogram(
            "mgem_request_seconds", "Seconds of an HTTP request.", ["route"], registry=registry, buckets=SECONDS
        )
        self.jobs = Counter("mgem_turns", "Turns and drawings.", ["kind", "outcome"], registry=registry)
        self.job_s = Histogram(
            "mgem_turn_seconds", "Seconds that a turn or drawing ran.", ["kind"], registry=registry, buckets=SECONDS
        )
        self.wait_s = Histogram(
            "mgem_queue_wait_seconds", "Seconds that a job waited.", registry=registry, buckets=SECONDS
        )
        self.pictures = Counter("mgem_pictures", "Pictures.", ["generator", "outcome"], registry=registry)
        self.picture_s = Histogram(
            "mgem_picture_seconds", "Seconds of a picture.", ["generator"], registry=registry, buckets=SECONDS
        )
        self.batches = Histogram(
            "mgem_batch_pictures", "Pictures in a batch.", ["generator"], registry=registry, buckets=BATCHES
        )
        self.answers = Counter("mgem_answers", "Answers of the reasoner.", ["outcome"], registry=registry)
        self.answer_s = Histogram("mgem_answer_seconds", "Seconds of an answer.", registry=registry, buckets=SECONDS)
        self.tokens = Counter("mgem_tokens", "Tokens of the reasoner.", ["kind"], registry=registry)

    def show_gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a value that is read when the metrics are.

        Args:
            name: Name of the metric.
            text: What it is.
            value: Returns it.
        """
        Gauge(name, text, registry=self.registry).set_function(value)

    def job_ended(self, kind: str, waited_s: float, ran_s: float, *, is_cancelled: bool) -> None:
        """Count a job that has ended."""
        self.jobs.labels(kind, "cancelled" if is_cancelled else "finished").inc()
        self.wait_s.observe(waited_s)
        self.job_s.labels(kind).observe(ran_s)

    def picture_ended(self, generator: str, result: ImageResult) -> None:
        """Count a picture, or a request that did not become one."""
        if result.image is not None:
            outcome = "drawn"
            self.picture_s.labels(generator).observe(result.seconds)
        else:
            outcome = "cancelled" if isinstance(result.error, GenerationCancelledError) else "failed"
        self.pictures.labels(generator, outcome).inc()

    def count_tokens(self, *, input_tokens: int, output_tokens: int, image_tokens: int, cached_tokens: int) -> None:
        """Count the tokens of an answer."""
        counts = {"input": input_tokens, "output": output_tokens, "image": image_tokens, "cached": cached_tokens}
        for kind, count in counts.items():
            self.tokens.labels(kind).inc(count)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def metrics_router(metrics: Metrics) -> APIRouter:
    """Return the route of the metrics.

    Args:
        metrics: The server's metrics.
    """
    router = APIRouter()

    @router.get("/metrics")
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
