from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import InputError, ToolError
from mgem_agent.scale.batch import BatchStep, MakeStep, run_batch, run_here, run_items
from mgem_agent.scale.batch_manifest import BatchManifest
from mgem_agent.scale.batch_row import BatchItem, BatchRow, failed_row


class CountingStep:
    """Doubles numbers, and records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def run(self, items: Sequence[BatchItem]) -> Iterator[BatchRow]:
        self.asked.append([item.key for item in items])
        return run_items(items, self._double)

    def _double(self, item: BatchItem) -> tuple[list[str], dict[str, Any]]:
        if item.data["n"] == 2:
            raise ToolError("Two is not possible. Give another number.", retryable=True)
        if item.data["n"] == 3:
            raise KeyError("three")
        return [], {"double": 2 * item.data["n"]}


def items_of(*numbers: int) -> list[BatchItem]:
    return [BatchItem(f"n{number}", {"n": number}) for number in numbers]


def test_a_failed_item_is_a_row_and_the_others_continue(tmp_path: Path) -> None:
    told: list[str] = []
    step = CountingStep()
    with BatchManifest(tmp_path) as manifest:
        items = items_of(1, 2, 3, 4)
        report = run_batch(items, lambda: step, manifest, group_size=3, report=lambda row: told.append(row.key))
    assert told == ["n1", "n2", "n3", "n4"] and step.asked == [["n1", "n2", "n3"], ["n4"]]
    assert [row.status for row in report.rows] == ["done", "failed", "failed", "done"]
    assert [row.result for row in report.rows] == [{"double": 2}, {}, {}, {"double": 8}]
    two, three = report.failed
    assert (two.error, two.error_kind, two.retryable) == (
        "Two is not possible. Give another number.",
        "ToolError",
        True,
    )
    assert (three.error, three.error_kind) == ("Unexpected KeyError: 'three'", "KeyError")


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    for numbers, expected in (((1, 2), [["n1"], ["n2"]]), ((1, 2), [["n2"]]), ((4, 1), [["n4"]])):
        step = CountingStep()
        with BatchManifest(tmp_path) as manifest:
            report = run_batch(items_of(*numbers), lambda step=step: step, manifest)  # type: ignore[misc]
        assert step.asked == expected
    assert report.num_done_before == 1 and [row.key for row in report.rows] == ["n4", "n1"]


def test_a_batch_that_is_done_creates_no_step(tmp_path: Path) -> None:
    def no_step() -> BatchStep:
        raise AssertionError("nothing is left to do")

    for make_step in (CountingStep, no_step):
        with BatchManifest(tmp_path) as manifest:
            assert run_batch(items_of(1), make_step, manifest).rows[0].status == "done"


def test_an_interrupted_batch_keeps_its_rows(tmp_path: Path) -> None:
    def stopped(make_step: MakeStep, groups: Sequence[Sequence[BatchItem]]) -> Iterator[BatchRow]:
        yield from run_here(make_step, groups[:1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), BatchManifest(tmp_path) as manifest:
        run_batch(items_of(1, 4), CountingStep, manifest, run=stopped)
    step = CountingStep()
    with BatchManifest(tmp_path) as manifest:
        run_batch(items_of(1, 4), lambda: step, manifest)
    assert step.asked == [["n4"]]


def test_an_item_whose_worker_was_lost_is_a_row(tmp_path: Path) -> None:
    with BatchManifest(tmp_path) as manifest:
        report = run_batch(items_of(1), CountingStep, manifest, run=lambda make_step, groups: iter(()))
    assert report.failed[0].error.startswith("The worker that ran this item ended several times")
    assert report.failed[0].retryable


def test_two_items_of_a_name_are_refused(tmp_path: Path) -> None:
    with BatchManifest(tmp_path) as manifest, pytest.raises(InputError, match="Two items of the batch .* 'n1'"):
        run_batch(items_of(1, 4, 1), CountingStep, manifest)


def test_a_row_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-abcdefgh12345678")
    row = failed_row(BatchItem("one", {}), RuntimeError("the key sk-abcdefgh12345678 is wrong"))
    assert row.error == "Unexpected RuntimeError: the key (hidden) is wrong"
