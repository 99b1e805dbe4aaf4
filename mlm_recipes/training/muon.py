"""Muon for the weight matrices inside a model, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and torch's AdamW as one optimizer, each with its own parameters, both with the same learning rate.

    Args:
        matrices: parameter groups for Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), with
            two-dimensional parameters only. Their updates are scaled to the size of AdamW's, so that one learning rate
            suits both (Liu et al. 2025, https://arxiv.org/abs/2502.16982).
        others: parameter groups for AdamW.
        lr: the learning rate.
        momentum: Muon's Nesterov momentum.
        betas, eps, fused: AdamW's.
        dtype: the dtype of the products that orthogonalize an update. bfloat16 suffices where the hardware multiplies
            it; elsewhere it took forty times as long as float32. (torch.optim.Muon always uses bfloat16.)

    >>> matrix, bias = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2))
    >>> optimizer = MuonWithAdamW([{"params": [matrix]}], [{"params": [bias]}], lr=0.1)
    >>> (matrix.sum() + bias.sum()).backward()
    >>> optimizer.step()
    >>> matrix[0, 0].item() < 1, round(bias[0].item(), 6)
    (True, 0.9)
    """

    def __init__(
        self,
        matrices: list[dict[str, Any]],
        others: list[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._dtype = dtype
        self._adamw = torch.optim.AdamW(
            [{"weight_decay": 0.0, **group} for group in others], lr, betas, eps, fused=fused
        )
        matrices = [{"weight_decay": 0.0, **group, "momentum": momentum} for group in matrices]
        super().__init__([*matrices, *self._adamw.param_groups], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "momentum" in group:
                self._step_of_muon(group)
        # A checkpoint or a schedule may have replaced them since the last step.
        self._adamw.param_groups = [group for group in self.param_groups if "momentum" not in group]
        self._adamw.state = self.state
        self._adamw.step()
        return loss

    def _step_of_muon(self, group: dict[str, Any]) -> None:
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(matrix.grad)
            average = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
            update = orthogonal(matrix.grad.lerp(average, group["momentum"]), self._dtype)
            size = 0.2 * max(matrix.shape) ** 0.5  # the root mean square of an AdamW update is about 0.2
            matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * size)


def orthogonal(matrix: torch.Tensor, dtype: torch.dtype = torch.float32, steps: int = 5) -> torch.Tensor:
    """Return a matrix with the singular vectors of `matrix`, and singular values near 1 (0.7 to 1.2).

    Newton-Schulz with Muon's coefficients, which trade exactness for a fast start; the products are in `dtype`.

    >>> [round(value, 1) for value in orthogonal(torch.diag(torch.tensor([3.0, 1.0]))).diagonal().tolist()]
    [0.8, 1.1]
    """
    rows = matrix.to(dtype)
    if tall := rows.shape[0] > rows.shape[1]:
        rows = rows.T
    rows = rows / rows.norm().clamp(min=1e-7)
    for _ in range(steps):
        square = rows @ rows.T
        rows = torch.addmm(rows, torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315), rows, beta=3.4445)
    return (rows.T if tall else rows).to(matrix.dtype)


def muon_with_adamw(
    model: torch.nn.Module, decayed: Collection[str], weight_decay: float, **kwargs: Any
) -> MuonWithAdamW:
    """Return a MuonWithAdamW for `model`: Muon gets every matrix except the embeddings and the vocabulary head.

    Args:
        model: a transformers model.
        decayed: names of the parameters that weight decay applies to.
        weight_decay: the weight decay of these.
        kwargs: as for MuonWithAdamW.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> optimizer = muon_with_adamw(BertForMaskedLM(BertConfig(vocab_size=50, **size)), (), 0.0, lr=1e-3)
    >>> [len(group["params"]) for group in optimizer.param_groups]  # query, key, value, output, up, down, transform
    [7, 19]
    """
    outer = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    if head is not None:
        outer.add(id(head.weight))
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inner = parameter.ndim == 2 and id(parameter) not in outer
            groups.setdefault((inner, name in decayed), []).append(parameter)

    def chosen(inner: bool) -> list[dict[str, Any]]:
        return [
            {"params": groups[inner, decays], "weight_decay": weight_decay if decays else 0.0}
            for decays in (True, False)
            if (inner, decays) in groups
        ]

    return MuonWithAdamW(chosen(True), chosen(False), **kwargs)
