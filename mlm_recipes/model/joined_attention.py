"""Attention for sequences that are joined in one row, without attention between sequences.

Except for attention, an encoder processes each token separately, so a joined row costs only its real tokens. The
attention function is registered with transformers (`AttentionInterface`). It finds the sequences by `cu_seq_lens_q`,
which the model passes on from the batch; without it, transformers' own SDPA is used. MosaicBERT and ModernBERT call
this unpadding (https://arxiv.org/abs/2312.17482, 2412.13663).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .dropout import can_draw, drop_by_sign_, drop_where_negative_, noise, noise_of
from .flash_attention import flash_by_lengths, has_flash
from .row_keys import RowKeys, by_head

#: The attention implementation's name. Names that contain sdpa, flash or flex have a special meaning in transformers.
NAME = "padding_free"


_MULTIPLE = 16


#: Sequences of equal length are multiplied together up to this many tokens; beyond it their scores exceed the cache.
_SHORT = 128


#: Beyond this many tokens, attention without dropout uses torch's function, which does not store the probabilities.
_LONG = 1024


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each sequence of a joined row, with the signature of transformers' `AttentionInterface`.

    Args:
        module: the attention layer.
        query, key, value: shape `(1, heads, tokens, head_dim)`; key and value may have fewer heads.
        attention_mask: ignored for a joined row; otherwise as for `sdpa`.
        dropout: the dropout of the attention probabilities.
        scaling: the factor of the scores, by default `head_dim ** -0.5`.
        cu_seq_lens_q: the start of each sequence, and the end of the row: int32, shape `(sequences + 1,)`.
        max_length_q: the number of tokens in the longest sequence.
        sliding_window: a token attends to tokens less than this many positions away.

    Returns `(1, tokens, heads, head_dim)`, and None for the probabilities, which are not kept.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    assert query.shape[0] == 1, "joined sequences form one row"
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = query.squeeze(0), key.squeeze(0), value.squeeze(0)  # indexing's backward pass fills tensors with zeros
    if q.device.type != "cpu" and torch.is_autocast_enabled(q.device.type):  # as autocast does for SDPA
        q, k, v = (each.to(torch.get_autocast_dtype(each.device.type)) for each in (q, k, v))
    elif not q.dtype == k.dtype == v.dtype:  # under autocast, rotary positions make float32 of all but the values
        q, k = q.to(v.dtype), k.to(v.dtype)
    longest = int(cu_seq_lens_q.diff().max()) if max_length_q is None else max_length_q
    by_row: RowKeys | None = getattr(module, "by_row", None)
    keys = by_row.next()[0] if by_row is not None and can_draw(dropout) else None  # (tokens,)
    if keys is None and has_flash(q.device, q.dtype, q.shape[-1]):  # whose noise is its own
        joined = flash_by_lengths(q, k, v, cu_seq_lens_q, longest, dropout, scaling, sliding_window)
        return joined.transpose(0, 1).unsqueeze(0), None
    if k.shape[0] != q.shape[0]:
        k, v = (each.repeat_interleave(q.shape[0] // each.shape[0], dim=0) for each in (k, v))
    if keys is not None:
        joined = _one_by_one(q, k, v, cu_seq_lens_q, longest, dropout, scaling, sliding_window, keys)
    else:
        plain = _one_by_one if q.device.type == "cpu" else _padded
        joined = plain(q, k, v, cu_seq_lens_q, longest, dropout, scaling, sliding_window)
    return joined.transpose(0, 1).unsqueeze(0), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)  # otherwise a padded batch would attend to its padding


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a loop over lengths, which differ in every batch
def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    longest: int,
    dropout: float,
    scaling: float,
    window: int | None,
    keys: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend in each sequence separately, which is fastest on a CPU; all are `(heads, tokens, head_dim)`.

    `keys`: those that the noise of each token's probabilities belongs to, shape `(tokens,)`, or None.
    """
    lengths = cu_seq_lens.diff().tolist()
    # The choice may depend on gradients only without dropout: a checkpointed layer runs twice and must draw the same.
    learning = torch.is_grad_enabled() and not dropout and longest <= _LONG
    if can_draw(dropout) or learning:
        heads = query.shape[0]
        batched = _as_one_batch(lengths)
        if batched:
            query, key, value = (
                each.unflatten(1, (len(lengths), lengths[0])).flatten(0, 1) for each in (query, key, value)
            )
        of_head = None if keys is None else by_head(keys, heads)  # (heads, tokens)
        if of_head is not None and batched:
            of_head = of_head.view(-1, lengths[0])
        with torch.autocast(query.device.type, enabled=False):  # autocast would make copies in float32
            attended = _Attention.apply(
                query, key, value, lengths[:1] if batched else lengths, dropout, scaling, window, of_head
            )
        return attended.unflatten(0, (heads, len(lengths))).flatten(1, 2) if batched else attended
    each_sequence = (each.split(lengths, dim=1) for each in (query, key, value))
    attended = [
        scaled_dot_product_attention(
            q.unsqueeze(0),
            k.unsqueeze(0),
            v.unsqueeze(0),
            attn_mask=None if window is None or length <= window else _near(length, window, query.device),
            dropout_p=dropout,
            scale=scaling,
        ).squeeze(0)
        for length, q, k, v in zip(lengths, *each_sequence, strict=True)
    ]
    return torch.cat(attended, dim=1)


def _as_one_batch(lengths: list[int]) -> bool:
    """Tell whether sequences are short and equally long, like a batch: then a single product for all is fastest."""
    length = lengths[0]
    return len(lengths) > 1 and len(set(lengths)) == 1 and length % _MULTIPLE == 0 and 0 < length <= _SHORT


def _near(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Return the mask of a sliding window: bool, shape `(length, length)`."""
    place = torch.arange(length, device=device)
    return (place[:, None] - place).abs() < window


def _padded(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    longest: int,
    dropout: float,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """Pad the sequences for attention only; all are `(heads, tokens, head_dim)`. Nothing waits for the device."""
    heads, tokens, _ = query.shape
    sequences = len(cu_seq_lens) - 1
    place = torch.arange(tokens, device=query.device)
    sequence = torch.bucketize(place, cu_seq_lens[1:], right=True)
    index = sequence * longest + place - cu_seq_lens[sequence]  # (tokens,): the index of each token when padded

    def pad(each: torch.Tensor) -> torch.Tensor:  # (sequences, heads, longest, head_dim)
        rows = each.new_zeros(sequences * longest, heads, each.shape[-1])
        return rows.index_copy(0, index, each.transpose(0, 1)).unflatten(0, (sequences, longest)).transpose(1, 2)

    within = torch.arange(longest, device=query.device) < cu_seq_lens.diff()[:, None]
    mask = within[:, None, None, :]  # (sequences, 1, 1, longest)
    if window is not None and longest > window:
        # A padding position may see nothing; let it see itself, since a softmax over nothing would be NaN.
        mask = mask & _near(longest, window, query.device) | torch.eye(longest, dtype=torch.bool, device=query.device)
    attended = scaled_dot_product_attention(
        pad(query), pad(key), pad(value), attn_mask=mask, dropout_p=dropout, scale=scaling
    )
    return attended.transpose(1, 2).flatten(0, 1)[index].transpose(0, 1)


class _Attention(torch.autograd.Function):
    """softmax(query key' * scaling), with dropout, times value, for each sequence.

    On a CPU, torch's own SDPA does not use its fast path with dropout, and that path's backward pass is slow. This
    function stores one tensor of the probabilities' size for the backward pass, in which dropped elements are negative.

    For bfloat16, oneDNN compiles a kernel for each new length, which takes longer than the product. A sequence is
    therefore extended to a multiple of 16 tokens, into those that follow it, and the extra tokens are masked out.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: list[int],
        dropout: float,
        scaling: float,
        window: int | None,
        keys: torch.Tensor | None = None,
    ) -> torch.Tensor:
        attended = torch.empty_like(value)
        factor = 1.0
        signed = []
        rows = [_readable(each, lengths) for each in (query * scaling, key, value)]
        each_keys = keys.split(lengths, dim=1) if keys is not None else [None] * len(lengths)
        each_result = zip(_read(lengths, *rows), attended.split(lengths, dim=1), each_keys, strict=True)
        for (q, k, v), result, of_row in each_result:
            length = result.shape[1]
            scores = torch.bmm(q, k.mT)  # (heads, read, read)
            scores[:, :, length:] = -torch.inf  # the extra tokens are not attended to
            if window is not None and length > window:
                far = ~_near(scores.shape[-1], window, scores.device)
                scores += torch.zeros_like(scores[0]).masked_fill_(far, -torch.inf)
            probabilities = scores.softmax(-1)
            probabilities[:, length:] = 0  # and attend to nothing
            if dropout:
                if of_row is None:
                    kept, factor = noise(probabilities.shape, dropout)
                    drop_by_sign_(probabilities, kept)
                else:  # the extra tokens' probabilities are 0 in any case
                    kept, factor = noise_of(of_row, length, dropout)
                    drop_by_sign_(probabilities[:, :length, :length], kept)
            signed.append(probabilities)
            result.copy_(torch.bmm(probabilities.clamp_min(0) if dropout else probabilities, v)[:, :length])
        ctx.save_for_backward(*rows, *signed)
        ctx.constants = lengths, scaling, factor, dropout
        return attended.mul_(factor) if dropout else attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        query, key, value, *signed = ctx.saved_tensors  # read once: a checkpointed layer does not allow a second read
        lengths, scaling, factor, dropout = ctx.constants
        gradients = tuple(gradient.new_empty(*gradient.shape[:2], each.shape[-1]) for each in (query, key, value))
        each_gradient = zip(*(each.split(lengths, dim=1) for each in gradients), strict=True)
        read = _read(lengths, query, key, value, _readable(gradient * factor if dropout else gradient, lengths))
        for (q, k, v, given), probabilities, to in zip(read, signed, each_gradient, strict=True):
            length = to[0].shape[1]
            kept, to_probabilities = probabilities, torch.bmm(given, v.mT)
            if dropout:
                kept, to_probabilities = kept.clamp_min(0), drop_where_negative_(to_probabilities, probabilities)
                probabilities = probabilities.abs()
            to[2].copy_(torch.bmm(kept.mT, given)[:, :length])
            to_scores = torch._softmax_backward_data(to_probabilities, probabilities, -1, probabilities.dtype)
            to[0].copy_(torch.bmm(to_scores, k)[:, :length])
            to[1].copy_(torch.bmm(to_scores.mT, q)[:, :length])
        gradients[0].mul_(scaling)
        return *gradients, None, None, None, None, None


def _readable(rows: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Return `(heads, tokens, head_dim)`, with extra rows at the end if sequences will be extended past it."""
    beyond = rows.dtype.itemsize == 2 and any(length % _MULTIPLE for length in lengths)
    return torch.nn.functional.pad(rows, (0, 0, 0, _MULTIPLE - 1)) if beyond else rows


def _read(lengths: list[int], *rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield each sequence's part of `rows`, extended to a multiple of 16 tokens if they are 16-bit."""
    multiple = _MULTIPLE if rows[0].dtype.itemsize == 2 else 1
    start = 0
    for length in lengths:
        yield tuple(each[:, start : start - (-length // multiple) * multiple] for each in rows)
        start += length
