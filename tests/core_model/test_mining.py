import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mgem_agent.core_model import PatchInfoMining
from mgem_agent.errors import GeometryError
from mgem_agent.testing import TextbookPatchInfoMining

WIDTHS = (4, 6, 10, 14)
DIM = sum(WIDTHS)


def make_pair(
    query_dim: int = 16, dtype: torch.dtype = torch.float32
) -> tuple[PatchInfoMining, TextbookPatchInfoMining]:
    fast = PatchInfoMining(query_dim, DIM)
    for parameter in fast.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    slow = TextbookPatchInfoMining(query_dim, DIM)
    slow.load_state_dict(fast.state_dict())
    return fast.to(dtype), slow.to(dtype)


def make_stages(size: int, batch: int = 2, mean: float = 0.3) -> list[torch.Tensor]:
    sides = [max(1, size >> level) for level in range(len(WIDTHS))]
    return [
        torch.randn(batch, c, side, side) * (1 + i) + mean
        for i, (c, side) in enumerate(zip(WIDTHS, sides, strict=True))
    ]


@pytest.mark.parametrize(
    ("grid", "window", "scale"),
    [
        (6, 8, 1.0),  # the released models' window
        (4, 12, 1.0),  # the ablation with a 768 px image and 224 px tokens: windows start between coarse pixels
        (8, 3, 1.0),  # odd windows
        (4, 2, 1.0),  # coarse pixels larger than a window
        (3, 1, 1.0),  # one pixel a window
        (1, 16, 1.0),  # one window
        (3, 8, 0.5),  # the global image of the HD models
        (2, 12, 0.5),
        (4, 4, 0.25),
    ],
)
def test_equals_the_textbook_form(grid: int, window: int, scale: float) -> None:
    fast, slow = make_pair()
    stages = make_stages(int(grid * window / scale))
    tokens = torch.randn(2, grid * grid, 16)

    torch.testing.assert_close(
        fast(tokens, stages, scale=scale), slow(tokens, stages, scale=scale), atol=1e-5, rtol=1e-5
    )


def test_equals_the_textbook_form_where_a_mean_dwarfs_the_spread() -> None:
    fast, slow = make_pair()
    stages = make_stages(32, mean=30.0)
    tokens = torch.randn(2, 16, 16)

    expected = slow.double()(tokens.double(), [stage.double() for stage in stages])
    torch.testing.assert_close(fast(tokens, stages).double(), expected, atol=1e-3, rtol=1e-3)


def test_gradients_equal_those_of_the_textbook_form() -> None:
    fast, slow = make_pair()
    inputs = [[torch.randn(2, 16, 16), *make_stages(32)] for _ in range(1)][0]
    gradients = []
    for module in (fast, slow):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        module(leaves[0], leaves[1:]).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves] + [parameter.grad for parameter in module.parameters()])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=2e-3, rtol=1e-3)


def test_every_parameter_gets_a_gradient() -> None:
    fast, _ = make_pair()
    fast(torch.randn(1, 4, 16), make_stages(16, batch=1)).sum().backward()
    assert all(parameter.grad is not None for parameter in fast.parameters())


def test_bf16_is_as_close_to_float32_as_its_own_rounding() -> None:
    fast, slow = make_pair(dtype=torch.bfloat16)
    stages = [stage.bfloat16() for stage in make_stages(32)]
    tokens = torch.randn(2, 16, 16).bfloat16()
    exact = slow.float()(tokens.float(), [stage.float() for stage in stages])

    ours = fast(tokens, stages)
    assert ours.dtype == torch.bfloat16
    error = (ours.float() - exact).abs().max()
    textbook_error = (slow.bfloat16()(tokens, stages).float() - exact).abs().max()
    assert error <= textbook_error
    assert error / exact.abs().max() < 2**-7


def test_works_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = make_pair()
    stages, tokens = make_stages(48), torch.randn(2, 36, 16)
    whole = fast(tokens, stages)
    monkeypatch.setattr("mgem_agent.core_model.mining._CHUNK_ELEMENTS", 1)
    torch.testing.assert_close(fast(tokens, stages), whole)


def test_a_token_sees_only_its_own_window() -> None:
    fast, _ = make_pair()
    tokens, stages = torch.randn(1, 16, 16), make_stages(32, batch=1)
    before = fast(tokens, stages)
    stages[0][:, :, :8, 8:16] += 1.0  # the window of token 1
    changed = (fast(tokens, stages) - before).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [1]


def test_autocast_keeps_the_sums_in_float32() -> None:
    fast, _ = make_pair()
    tokens, stages = torch.randn(1, 16, 16), make_stages(32, batch=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mined = fast(tokens, stages)
    assert mined.dtype == torch.float32
    torch.testing.assert_close(mined, fast(tokens, stages), atol=0.1, rtol=0.05)


def test_refuses_a_map_that_does_not_divide() -> None:
    fast, _ = make_pair()
    with pytest.raises(GeometryError, match=r"30×30 pixels does not divide into 4×4 windows.*multiple of 4"):
        fast(torch.randn(1, 16, 16), make_stages(30, batch=1))


@pytest.mark.parametrize(
    ("tokens", "stages", "message"),
    [
        (torch.zeros(1, 17, 16), make_stages(16, 1), "17 query tokens do not form a square. Leave out the class token"),
        (torch.zeros(1, 16, 15), make_stages(16, 1), r"query_tokens must be \(b, n, 16\), got \(1, 16, 15\)"),
        (torch.zeros(1, 16, 16), make_stages(16, 1)[:3], r"4 \+ 6 \+ 10 channels.*candidate_dim = 34"),
        (torch.zeros(1, 16, 16), torch.zeros(1, 34, 16, 16), "list of stage maps .*got Tensor"),
        (torch.zeros(1, 16, 16), [], "list of stage maps"),
        (torch.zeros(1, 16, 16), make_stages(16, 2), "square map .* b = 1"),
        (torch.zeros(1, 16, 16), [torch.zeros(1, 34, 16, 8)], "square map"),
    ],
)
def test_refuses_what_does_not_fit(tokens: torch.Tensor, stages: list[torch.Tensor], message: str) -> None:
    fast, _ = make_pair()
    with pytest.raises(GeometryError, match=message):
        fast(tokens, stages)


def test_never_builds_the_concatenated_map() -> None:
    grid, window, widths = 16, 8, (16, 32, 64, 128)
    fast = PatchInfoMining(16, sum(widths))
    stages = [torch.randn(1, c, grid * window >> i, grid * window >> i) for i, c in enumerate(widths)]
    tokens = torch.randn(1, grid * grid, 16)
    sizes: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            sizes.extend(
                tensor.numel()
                for tensor in (result if isinstance(result, tuple) else [result])
                if isinstance(tensor, torch.Tensor)
            )
            return result

    with torch.no_grad(), Watch():
        fast(tokens, stages)
    assert 0 < max(sizes) < sum(widths) * (grid * window) ** 2 / 4
