"""A reasoner on this machine writes only so many answers at once, and a slot is freed however an answer ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mgem_agent import ChatMiniGemini
from mgem_agent.server.metrics import Metrics
from mgem_agent.server.reasoner_watch import watched
from mgem_agent.server.tracing import Tracing


class Engine:
    """A text engine that notes how many answers are written at once."""

    def __init__(self) -> None:
        self.running, self.most = 0, 0
        self.lock = threading.Lock()

    def stream(self, request: Any) -> Iterator[str]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            yield "Yes."
            time.sleep(0.02)
            if "fail" in str(request.dialogue):
                raise RuntimeError("no")
            yield " No."
        finally:
            with self.lock:
                self.running -= 1


def test_slots() -> None:
    engine, metrics = Engine(), Metrics()
    reasoner = ChatMiniGemini(model="test", engine_factory=lambda name: engine)
    model = watched(reasoner, "test", metrics, Tracing(), slots=2)

    def ask(number: int) -> str:
        if number % 4 == 1:
            stream = model.stream("Close early.")
            first = str(next(stream).text)
            stream.close()  # type: ignore[attr-defined]
            return first
        try:
            return str(model.invoke("fail" if number % 4 == 2 else "Answer.").text)
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))
    assert answers[:4] == ["Yes. No.", "Yes.", "no", "Yes. No."]
    assert (engine.most, engine.running) == (2, 0)
    text = metrics.text().decode()
    for outcome, count in (("finished", 8), ("cancelled", 4), ("failed", 4)):
        assert f'mgem_answers_total{{outcome="{outcome}"}} {count}.0' in text


def test_a_reasoner_on_a_server_has_the_limit_of_that_server() -> None:
    engine = Engine()
    reasoner = ChatMiniGemini(model="http://127.0.0.1:9/v1#mgm-7b", engine_factory=lambda name: engine)
    assert not reasoner.runs_here
    model = watched(reasoner, "mgm-7b", Metrics(), Tracing(), slots=1)
    barrier = threading.Barrier(4)

    def ask(number: int) -> str:
        stream = model.stream("Answer.")
        first = str(next(stream).text)
        barrier.wait(timeout=10)  # broken if one waits for another's slot
        return first + "".join(str(chunk.text) for chunk in stream)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["Yes. No."] * 4
    assert (engine.most, engine.running) == (4, 0)
