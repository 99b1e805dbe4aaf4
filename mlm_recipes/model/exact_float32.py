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
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
