"""Gives the lower layers of a model lower learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def split_by_depth(optimizer: Any, depths: Mapping[torch.nn.Parameter, int], decay: float) -> None:
    """Divide the groups of a new optimizer by depth, and give each depth its own learning rate.

    The greatest depth, the head's, keeps the rate of its group; each depth below has `decay` times the rate of the one
    above it. With L layers, layer l (from 1) so learns at `decay ** (L + 1 - l)` of the rate, as in BEiT (Bao et al.
    2021, arXiv:2106.08254); discriminative fine-tuning is ULMFiT's (Howard & Ruder 2018, arXiv:1801.06146), which
    divides by 2.6. A schedule multiplies the rate of each group. Groups with a higher rate come first, so that the
    rate that is logged, the first group's, is the configured one.

    Args:
        optimizer: before its first step, and before a schedule is made for it.
        depths: the depth of each parameter, from 0.
        decay: above 0, at most 1.

    Raises: ValueError for an optimizer whose groups have no learning rate, or not the model's parameters.

    >>> low, high = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    >>> optimizer = torch.optim.AdamW([low, high], lr=0.1, weight_decay=0.01)
    >>> split_by_depth(optimizer, {low: 0, high: 2}, decay=0.5)
    >>> [(group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    [(0.1, 0.01, 1), (0.025, 0.01, 1)]
    """
    top, groups = max(depths.values()), []
    for group in optimizer.param_groups:
        parts: dict[int, list[torch.nn.Parameter]] = {}
        for weight in group["params"]:
            if weight not in depths or not isinstance(group.get("lr"), float):
                raise ValueError(
                    f"layerwise_lr_decay: received {decay:g} with {type(optimizer).__name__}, whose groups have no "
                    "learning rate for each of the model's parameters. Accepted: adamw_torch_fused, adamw_torch, "
                    "adafactor, sgd, or muon. Choose another optim, or leave layerwise_lr_decay out."
                )
            parts.setdefault(depths[weight], []).append(weight)
        for depth, weights in parts.items():
            groups.append({**group, "params": weights, "lr": group["lr"] * decay ** (top - depth)})
    optimizer.param_groups[:] = sorted(groups, key=lambda group: -group["lr"])
