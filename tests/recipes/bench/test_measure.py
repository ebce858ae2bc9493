"""The measuring itself: turns, memory, arithmetic, differences, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.measure import (
    compare,
    describe_machine,
    find_device,
    peak_extra_memory,
    require_positive,
    time_alternating,
    use_threads,
)

CPU = torch.device("cpu")


def test_calls_take_turns_in_going_first() -> None:
    order: list[str] = []
    seconds = time_alternating([lambda: order.append("a"), lambda: order.append("b")], repeats=3, device=CPU)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [len(timed) for timed in seconds] == [3, 3]
    assert min(min(timed) for timed in seconds) >= 0


def test_memory_is_the_peak_of_what_a_call_holds(capfd: pytest.CaptureFixture[str]) -> None:
    present = torch.ones(1000)

    def call() -> torch.Tensor:
        doubled = present * 2  # 4,000 bytes
        return (doubled * 3)[:1].clone()  # 4,000 more, and then a few

    peak_extra_memory(call, CPU)
    assert 8000 <= peak_extra_memory(call, CPU) < 8400
    assert capfd.readouterr().err == ""


def test_memory_freed_on_the_way_is_not_counted_twice() -> None:
    def call() -> None:
        for _ in range(5):
            torch.ones(1000)

    assert 4000 <= peak_extra_memory(call, CPU) < 4400


def test_a_comparison_counts_and_compares() -> None:
    left, right = torch.ones(4, 8), torch.ones(8, 16)
    comparison = compare(
        lambda: {"product": [left @ right], "sum": [left + 1.5]},
        lambda: {"product": [(left @ right) @ torch.eye(16)], "sum": [left + 1, left[:0].sum()][:1]},
        name="products",
        setting="ones",
        labels=("one", "two"),
        device=CPU,
        repeats=2,
    )
    assert comparison.max_abs_difference == {"product": 0.0, "sum": 0.5}
    assert comparison.max_abs_value == {"product": 8.0, "sum": 2.0}
    assert comparison.ours_run.flops == 2 * 4 * 8 * 16
    assert comparison.alternative_run.flops == 2 * 4 * 8 * 16 + 2 * 4 * 16 * 16
    assert comparison.flops_ratio == pytest.approx(3.0)
    assert [len(run.seconds) for run in (comparison.ours_run, comparison.alternative_run)] == [2, 2]


@pytest.mark.parametrize(
    ("with_gradients", "modes"), [(False, {(False, False), (False, True)}), (True, {(True, False)})]
)
def test_autograd_is_off_unless_it_is_measured(with_gradients: bool, modes: set[tuple[bool, bool]]) -> None:
    seen = set()

    def call() -> dict[str, list[torch.Tensor]]:
        seen.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return {"one": [torch.ones(1)]}

    compare(
        call,
        call,
        name="n",
        setting="s",
        labels=("a", "b"),
        device=CPU,
        repeats=1,
        with_gradients=with_gradients,
    )
    assert seen == modes


def test_the_number_of_threads_is_that_of_before_afterwards() -> None:
    before = torch.get_num_threads()
    with use_threads(1):
        assert torch.get_num_threads() == 1
        assert describe_machine(CPU).num_threads == 1
    with use_threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def test_a_machine_says_what_it_is() -> None:
    machine = describe_machine(CPU)
    assert machine.device == "cpu"
    assert machine.processor
    assert machine.torch == torch.__version__


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("teapot", "No device 'teapot' for a benchmark. Use 'cpu', 'cuda' or 'cuda:1'."),
        ("meta", "No device 'meta' for a benchmark. Use 'cpu', 'cuda' or 'cuda:1'."),
        ("cuda:1", f"No device 'cuda:1': torch {torch.__version__} sees 1 GPU(s). Use 'cpu'."),
        ("cuda:0", None),
        ("cuda", None),
        ("cpu", None),
    ],
)
def test_a_device_must_be_there(name: str, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    if message is None:
        assert find_device(name) == torch.device(name)
        return
    with pytest.raises(InputError) as caught:
        find_device(name)
    assert str(caught.value) == message


def test_without_a_gpu_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=r"^No device 'cuda': torch .* sees 0 GPU\(s\)\. Use 'cpu'\.$"):
        find_device("cuda")


def test_a_count_must_be_positive() -> None:
    require_positive(repeats=1)
    with pytest.raises(InputError, match=r"^batch must be at least 1, got 0\.$"):
        require_positive(repeats=1, batch=0)
