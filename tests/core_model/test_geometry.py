import pytest

from mgem_agent.core_model import VisualGeometry
from mgem_agent.errors import GeometryError


@pytest.mark.parametrize(
    ("low", "patch", "high", "grid", "whole", "tokens", "window"),
    [
        (224, 14, 512, 1, False, 256, 8),
        (224, 14, 768, 1, False, 256, 12),
        (336, 14, 768, 1, False, 576, 8),
        (336, 14, 1536, 2, True, 2880, 8),
        (336, 14, 1536, 2, False, 2304, 8),
        (378, 14, 864, 1, False, 729, 8),  # 27×27 tokens, as SigLIP-384 has
        (128, 16, 256, 1, False, 64, 8),
    ],
)
def test_sizes_follow(low: int, patch: int, high: int, grid: int, whole: bool, tokens: int, window: int) -> None:
    geometry = VisualGeometry(low, patch, high, grid, whole)
    assert (geometry.num_image_tokens, geometry.window_size) == (tokens, window)
    assert geometry.low_res_input_size == low * grid


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((336, 14, 700), r"HR image of 700 px .* 24×24 windows. Use a multiple of 96 px, such as 672 or 768"),
        ((336, 14, 50), "such as 96"),
        ((330, 14, 768), "330 px is not a whole number of patches of 14 px"),
        ((336, 14, 10**9), "high_res_size is 1,000,000,000 px with all crops; at most 8,192 px are allowed"),
        ((0, 14, 768), "low_res_size must be at least 1, got 0"),
        ((336, 14, 768, 0), "image_grid must be at least 1"),
    ],
)
def test_refuses_sizes_that_do_not_fit(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        VisualGeometry(*sizes)
