"""The orthogonalization of a matrix, or of many of one shape, by matrix products alone."""

from __future__ import annotations

import torch


def orthogonal(matrix: torch.Tensor, dtype: torch.dtype = torch.float32, steps: int = 5) -> torch.Tensor:
    """Return a matrix with the singular vectors of `matrix`, and singular values near 1 (0.7 to 1.2).

    Newton-Schulz with Muon's coefficients, which trade exactness for a fast start; the products are in `dtype`.

    Args:
        matrix: one matrix (rows, columns), or a stack of them (n, rows, columns).
        dtype: the dtype of the products.
        steps: the number of iterations.

    >>> [round(value, 1) for value in orthogonal(torch.diag(torch.tensor([3.0, 1.0]))).diagonal().tolist()]
    [0.8, 1.1]
    """
    rows = matrix.to(dtype)
    if tall := rows.shape[-2] > rows.shape[-1]:
        rows = rows.mT
    rows = rows / torch.linalg.vector_norm(rows, dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    add_product = torch.addmm if rows.ndim == 2 else torch.baddbmm
    for _ in range(steps):
        square = rows @ rows.mT
        polynomial = add_product(square, square, square, beta=-4.7750, alpha=2.0315)
        rows = add_product(rows, polynomial, rows, beta=3.4445)
    return (rows.mT if tall else rows).to(matrix.dtype)
