"""Flash attention by lengths on CUDA, with dropout: torch's own kernel, tested once on the device at hand."""

from __future__ import annotations

import torch

_operator = torch.ops.aten._flash_attention_forward

#: The kernel reads head dimensions in multiples of this, up to the largest.
_MULTIPLE, _LARGEST = 8, 256

#: What was found about each device, dtype and head dimension: None if the kernel works, or why it does not.
ASKED: dict[tuple[torch.device, torch.dtype, int], str | None] = {}


def has_flash(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Tell whether `flash_by_lengths` works; the kernel is called once, and the answer is kept in `ASKED`.

    It is called as in training: forward and backward, with dropout and a window, on sequences of different lengths, one
    of them empty. It is not called while a model is compiled, so that should be asked before.

    Args:
        device: the device, with its index, as a tensor on it has it.
        dtype: the dtype of the queries, as autocast makes them.
        head_dim: the number of elements of each head.

    >>> has_flash(torch.device("cpu"), torch.bfloat16, 64), ASKED[torch.device("cpu"), torch.bfloat16, 64]
    (False, 'torch has it for CUDA only')
    """
    key = (device, dtype, head_dim)
    if key not in ASKED:
        if torch.compiler.is_compiling():
            return False
        ASKED[key] = _ask(*key)
    return ASKED[key] is None


def _ask(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    if device.type != "cuda":
        return "torch has it for CUDA only"
    if dtype.itemsize != 2:
        return f"it needs half precision, and the run computes in {str(dtype).removeprefix('torch.')}"
    if head_dim > _LARGEST:
        return f"it takes heads of at most {_LARGEST} elements, and this model's have {head_dim}"
    lengths = torch.tensor([3, 0, 70], dtype=torch.int32, device=device)
    borders = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    with torch.enable_grad(), torch.random.fork_rng(devices=[device]), torch.autocast("cuda", enabled=False):
        q, k, v = (torch.randn(2, 73, head_dim, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
        try:
            for dropout, window in ((0.1, None), (0.1, 9), (0.0, None)):
                found = flash_by_lengths(q, k, v, borders, 70, dropout, head_dim**-0.5, window)
                gradients = torch.autograd.grad(found.float().sum(), (q, k, v))
            finite = all(bool(each.isfinite().all()) for each in (found, *gradients))
        except (RuntimeError, TypeError, AttributeError) as error:  # AttributeError: this torch does not have it
            return str(error).splitlines()[0]
    return None if finite else "its result is not finite"


def flash_by_lengths(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    longest: int,
    dropout: float,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """Attend within each sequence of a joined row, without padding (Dao 2023, https://arxiv.org/abs/2307.08691).

    The operator is torch's, and private: the public `torch.nn.attention.varlen.varlen_attn` has no dropout. It has a
    gradient, which adds in any order unless `torch.use_deterministic_algorithms(True)` is set.

    Args:
        query, key, value: bfloat16 or float16 on CUDA, shape `(heads, tokens, head_dim)`; key and value may have fewer
            heads.
        cu_seq_lens: the start of each sequence, and the end of the row: int32, shape `(sequences + 1,)`.
        longest: the number of tokens in the longest sequence, or more.
        dropout: the dropout of the attention probabilities; its noise is drawn in the kernel, from torch's generator.
        scaling: the factor of the scores.
        window: a token attends to tokens less than this many positions away.

    Returns shape `(heads, tokens, head_dim)`.
    """
    head_dim = query.shape[-1]
    beyond = -head_dim % _MULTIPLE  # zeros change neither the scores nor the other elements
    q, k, v = (
        (torch.nn.functional.pad(each, (0, beyond)) if beyond else each).transpose(0, 1) for each in (query, key, value)
    )
    reach = {} if window is None else {"window_size_left": window - 1, "window_size_right": window - 1}
    found: torch.Tensor = _operator(
        q, k, v, cu_seq_lens, cu_seq_lens, longest, longest, dropout, False, False, scale=scaling, **reach
    )[0]
    return found[..., :head_dim].transpose(0, 1)
