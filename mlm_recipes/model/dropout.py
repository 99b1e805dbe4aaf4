"""Dropout for training on a CPU, where torch's random noise costs as much as a matrix product."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .row_keys import GAMMA, RowKeys, mix_

#: A 16-bit number decides for each element, so the probability is a multiple of 1 / 65,536.
_LEVELS = 2**16

#: The functions of torch that draw noise of their own.
DROPOUTS = {torch.nn.functional.dropout, torch.nn.functional.dropout1d, torch.nn.functional.dropout2d, torch.dropout}

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Dropout(torch.nn.Dropout):
    """`torch.nn.Dropout` that draws its noise four elements at a time (Srivastava et al. 2014).

    In training on a CPU, each element is zeroed with probability `p`, rounded to a multiple of 1 / 65,536, and the
    others are divided by the probability of being kept, so the mean is exact. The noise comes from torch's generator,
    but in a different order than `torch.nn.Dropout` draws it. Otherwise (in evaluation, on another device, while
    compiling) `torch.nn.Dropout` itself is used. After `use_dropout_by_row`, the noise of each row is a function of
    its tokens, on all devices.

    >>> _ = torch.manual_seed(0)
    >>> Dropout(p=0.5)(torch.ones(8))
    tensor([0., 0., 2., 0., 0., 0., 0., 0.])
    """

    #: Whose tokens the noise belongs to; None: that of torch's generator.
    by_row: RowKeys | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`, of any shape, with some of its elements zeroed."""
        if self.by_row is not None and self.training and can_draw(self.p):
            return _Dropped.apply(x, self.p, self.by_row.of_shape(x.shape))
        ours = self.training and x.device.type == "cpu" and x.is_floating_point() and can_draw(self.p)
        if not ours or torch.compiler.is_compiling():
            return super().forward(x)
        return _Dropped.apply(x, self.p)


def use_fast_dropout(model: torch.nn.Module) -> None:
    """Replace every `torch.nn.Dropout` of a model with `Dropout`.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.1))
    >>> use_fast_dropout(model)
    >>> model[1]
    Dropout(p=0.1, inplace=False)
    >>> type(model[1]).__module__
    'mlm_recipes.model.dropout'
    """
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) is torch.nn.Dropout and not child.inplace:
                setattr(parent, name, Dropout(child.p).train(child.training))


def can_draw(p: float) -> bool:
    """Tell whether `noise` supports this probability; 0 and 1, and values that round to them, need no noise.

    >>> can_draw(0.1), can_draw(0.0), can_draw(1.0)
    (True, False, False)
    """
    return 0 < round(p * _LEVELS) < _LEVELS


def noise(shape: torch.Size, p: float) -> tuple[torch.Tensor, float]:
    """Draw which elements are kept: int16 for `drop_`, and the factor that preserves the mean.

    >>> kept, factor = noise(torch.Size([2, 3]), 0.5)
    >>> kept.shape, factor
    (torch.Size([2, 3]), 2.0)
    """
    words = torch.empty(-(-math.prod(shape) // 4), dtype=torch.int64).random_(-(2**63), None)
    return _kept(words.view(torch.int16)[: math.prod(shape)].view(shape), p)


def noise_of(keys: torch.Tensor, length: int, p: float) -> tuple[torch.Tensor, float]:
    """Return the noise that belongs to keys, shape `(*keys.shape, length)`, and the factor, as `noise` does.

    >>> kept, _ = noise_of(torch.tensor([5, 7, 5]), 6, 0.5)
    >>> kept.shape, torch.equal(kept[0], kept[2]), torch.equal(kept[0], kept[1])
    (torch.Size([3, 6]), True, False)
    """
    words = mix_(keys.unsqueeze(-1) + torch.arange(1, -(-length // 4) + 1, device=keys.device) * GAMMA)
    return _kept(words.view(torch.int16)[..., :length], p)


def _kept(kept: torch.Tensor, p: float) -> tuple[torch.Tensor, float]:
    threshold = round(p * _LEVELS) - _LEVELS // 2  # as a signed number
    kept.clamp_(threshold - 1, threshold)  # the lower if dropped, the upper if kept
    return kept.neg_().add_(threshold - 1), _LEVELS / (_LEVELS // 2 - threshold)  # 0, or all bits


def drop_(x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Zero the elements of `x` that are not kept, in place, and return it."""
    bits = _BITS[x.dtype.itemsize]  # multiplying by booleans takes several times as long
    x.view(bits).bitwise_and_(kept.to(bits))
    return x


def drop_by_sign_(x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Negate the elements of `x` that are not kept, in place, and return it; none may be negative before.

    `x` then holds both its values and the noise: `x.clamp_min(0)` is the result of dropout, `x.abs()` its input.

    >>> drop_by_sign_(torch.tensor([1.0, 2.0]), torch.tensor([0, -1], dtype=torch.int16))
    tensor([-1.,  2.])
    """
    bits = _BITS[x.dtype.itemsize]
    x.view(bits).bitwise_or_(kept.bitwise_not_().to(bits).bitwise_and_(torch.iinfo(bits).min))
    return x


def drop_where_negative_(x: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    """Zero the elements of `x` where `signed` has a minus sign, including -0, in place, and return it."""
    bits = _BITS[x.dtype.itemsize]
    x.view(bits).bitwise_and_((signed.view(bits) >> (8 * x.dtype.itemsize - 1)).bitwise_not_())
    return x


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float, keys: torch.Tensor | None = None) -> torch.Tensor:
        kept, ctx.factor = noise(x.shape, p) if keys is None else noise_of(keys, x.shape[-1], p)
        ctx.save_for_backward(kept)
        return drop_(x * ctx.factor, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        return drop_(gradient * ctx.factor, kept), None, None
