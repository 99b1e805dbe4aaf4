"""Newton-Schulz: the singular vectors stay, the singular values come near 1; one matrix or a stack."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mlm_recipes.model.rounding_bounds import rounding_bound
from mlm_recipes.training.optimization.orthogonal import orthogonal


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6)])
def test_an_update_is_orthogonalized(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix, torch.float64)
    in_its_vectors = left.T @ found @ right.T
    values = in_its_vectors.diagonal()
    # Five times three products, of nine terms each; the directions that are small before grow by 3.4 each time.
    bound = 3.4445**5 * rounding_bound(5 * 3 * 9, torch.float64)
    assert (in_its_vectors - torch.diag(values)).abs().max() <= bound
    assert ((values > 0.6) & (values < 1.3)).all()
    assert orthogonal(torch.zeros(2, 3)).abs().max() == 0
    assert (orthogonal(matrix.float()) - orthogonal(matrix.float(), torch.bfloat16)).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6)])
def test_a_stack_is_orthogonalized_matrix_by_matrix(shape):
    torch.manual_seed(0)
    stack = torch.randn(5, *shape, dtype=torch.float64) * torch.tensor([1e-3, 1, 0, 7, 1e3])[:, None, None]
    found = orthogonal(stack, torch.float64)
    assert found.shape == stack.shape
    bound = 3.4445**5 * rounding_bound(5 * 3 * 9, torch.float64)
    for matrix, values in zip(stack, found, strict=True):
        assert (orthogonal(matrix, torch.float64) - values).abs().max() <= bound


def test_the_products_are_those_of_the_smaller_side():
    def operations(*shape):
        with FlopCounterMode(display=False) as counter:
            orthogonal(torch.ones(shape))
        return counter.get_total_flops()

    assert operations(4, 9) == operations(9, 4) == 5 * 2 * (4 * 4 * 9 + 4 * 4 * 4 + 4 * 4 * 9)
    assert operations(5, 4, 9) == operations(5, 9, 4) == 5 * operations(4, 9)
