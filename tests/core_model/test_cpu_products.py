"""Products with packed matrices are those of the matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mgem_agent.core_model.cpu_products import exact_product, four_bit_product, grid_product, has_kernels, row_product

needs_kernels = pytest.mark.skipif(not has_kernels(), reason="this processor has no such kernels")


def on_grid(weight: Tensor) -> Tensor:
    """Round to 16 steps for each 32 neighbours, as a file of the kind Q4_1 has them."""
    groups = weight.view(len(weight), -1, 32)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    step = (high - low) / 15
    return (((groups - low) / step).round() * step + low).view_as(weight)


@needs_kernels
@pytest.mark.parametrize("rows", [1, 3])
def test_rounded_products_are_close(rows: int) -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(32, 64), torch.randn(rows, 64)
    four = grid_product(on_grid(weight))
    assert four is not None and grid_product(weight) is None
    products = [
        (four, on_grid(weight), 0.02),
        (row_product(weight), weight, 0.02),
        (four_bit_product(weight), weight, 0.1),
    ]
    for product, matrix, tolerance in products:
        found, wanted = product(hidden).float(), hidden @ matrix.T
        assert (found - wanted).norm() < tolerance * wanted.norm()


@pytest.mark.parametrize("is_half", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
def test_the_exact_product_loses_nothing(is_half: bool, rows: int) -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(48, 64), torch.randn(rows, 64)
    if is_half:
        weight = weight.half().float()
    wanted = hidden.double() @ weight.double().T
    assert (exact_product(weight)(hidden) - wanted).abs().max() < 1e-4


@needs_kernels
def test_a_matrix_without_blocks_gets_8_bits() -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(10, 48), torch.randn(1, 48)
    wanted = hidden @ weight.T
    assert (four_bit_product(weight)(hidden).float() - wanted).norm() < 0.02 * wanted.norm()
