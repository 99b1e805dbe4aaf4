"""Keeps the residual stream in bfloat16 under bf16 autocast, where LayerNorm would return it to float32."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import layer_norm

from .evaluation_mode import evaluation_mode


class LayerNorm(torch.nn.LayerNorm):
    """`torch.nn.LayerNorm` that returns bfloat16 under bf16 autocast, as MosaicBERT's low-precision LayerNorm does.

    Autocast runs LayerNorm in float32 on CUDA. On every device, one float32 tensor in a residual connection makes the
    sum float32, and so the whole stream. Here the input and the output, both of shape `(..., width)`, are bfloat16;
    mean, variance and all sums are float32. The weights stay float32 parameters, and are rounded to bfloat16 when they
    are used, as autocast does with those of a linear layer. A float32 input (that of the embeddings' LayerNorm) is
    normalised in float32, and only the result is rounded. Outside bf16 autocast this is `torch.nn.LayerNorm`.
    Source: Portes et al. 2023 (https://arxiv.org/abs/2312.17482).

    >>> x = torch.zeros(2, 4, dtype=torch.bfloat16)
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     LayerNorm(4)(x).dtype, LayerNorm(4)(x.float()).dtype
    (torch.bfloat16, torch.bfloat16)
    >>> LayerNorm(4)(x.float()).dtype
    torch.float32
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`, of shape `(..., width)`, normalised."""
        device = x.device.type
        on = device != "meta" and torch.is_autocast_enabled(device)  # meta tensors have no autocast
        if not on or torch.get_autocast_dtype(device) is not torch.bfloat16:
            return super().forward(x)
        if x.dtype is not torch.bfloat16:
            return super().forward(x).to(torch.bfloat16)
        weight, bias = (None if each is None else each.to(torch.bfloat16) for each in (self.weight, self.bias))
        if device == "cpu":
            # In bfloat16, torch's kernel for the CPU adds up the gradients of the weights in bfloat16: over 4,096 rows
            # they are wrong by a fifth (torch 2.13). The kernel for CUDA adds in float32, and so does this.
            x, weight, bias = x.float(), *(None if each is None else each.float() for each in (weight, bias))
        with torch.autocast(device, enabled=False):
            return layer_norm(x, self.normalized_shape, weight, bias, self.eps).to(torch.bfloat16)


def use_bf16_residual(model: Any) -> str | None:
    """Keep a model's residual stream in bfloat16 under bf16 autocast; return why it cannot be, or None if it is.

    Every `torch.nn.LayerNorm` becomes a `LayerNorm`: the same module, with the same parameters, names and hooks. A
    model that cannot is left unchanged. The model itself is tested, on one short sequence: the stream must be bfloat16
    wherever LayerNorm reads it.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> use_bf16_residual(model), type(model.bert.embeddings.LayerNorm).__module__
    (None, 'mlm_recipes.model.bf16_residual')
    """
    for module in model.modules():
        if type(module) is torch.nn.LayerNorm:
            module.__class__ = LayerNorm
    try:
        with evaluation_mode(model):
            why = _not_bfloat16(model)
    except (RuntimeError, TypeError, KeyError, IndexError, ValueError) as error:
        why = f"it fails with LayerNorm in bfloat16 ({str(error).splitlines()[0]})"
    if why:
        use_float32_residual(model)
    return why


def use_float32_residual(model: torch.nn.Module) -> None:
    """Undo `use_bf16_residual`: every `LayerNorm` becomes a `torch.nn.LayerNorm` again.

    >>> model = torch.nn.Sequential(LayerNorm(4))
    >>> use_float32_residual(model)
    >>> type(model[0]) is torch.nn.LayerNorm
    True
    """
    for module in model.modules():
        if type(module) is LayerNorm:
            module.__class__ = torch.nn.LayerNorm  # type: ignore[assignment]


@torch.no_grad()
def _not_bfloat16(model: Any) -> str | None:
    """Return where the residual stream is not bfloat16 under bf16 autocast, or None if it is everywhere.

    LayerNorm reads the stream. The first one called may read the float32 embeddings, and the last, the head's, what its
    activation returns: some are computed with `pow` or `tanh`, which are float32 under autocast on CUDA.
    """
    read: list[torch.dtype] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: read.append(args[0].dtype))
        for module in model.modules()
        if isinstance(module, LayerNorm)
    ]
    embeddings = model.get_input_embeddings().weight
    ids = torch.arange(8, device=embeddings.device).unsqueeze(0) % len(embeddings)  # (1, tokens)
    try:
        with torch.autocast(ids.device.type, torch.bfloat16):
            model(input_ids=ids)
    finally:
        for handle in handles:
            handle.remove()
    if len(read) <= model.config.num_hidden_layers:
        return f"{type(model).__name__} normalises with something other than torch.nn.LayerNorm"
    others = sum(dtype is not torch.bfloat16 for dtype in read[1:-1])
    return f"{others} of its {len(read)} LayerNorms still get float32" if others else None
