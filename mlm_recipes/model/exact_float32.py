"""Exact float32 products on CUDA, for comparisons whose bound is float32's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within `with`, multiply float32 matrices exactly on CUDA, even if the run allows TF32 (10 bits of mantissa).

    >>> with exact_float32():
    ...     torch.backends.cuda.matmul.fp32_precision
    'ieee'
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = "none"  # as torch.backends.fp32_precision says, also when that changes later
        if matmul.fp32_precision != before:
            matmul.fp32_precision = before
