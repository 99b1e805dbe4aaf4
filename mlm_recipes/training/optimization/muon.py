"""Muon for the weight matrices inside a model, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from ...model.sharded_weights import on_whole, own_rows
from .orthogonal import orthogonal

#: The most elements of a stack. Up to four stacks exist at a time: 1.1 GB in float32. bert-base's largest shape has 28
#: million elements in all layers together.
ELEMENTS_AT_ONCE = 2**26


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and torch's AdamW as one optimizer, each with its own parameters, both with the same learning rate.

    Matrices of the same shape are updated together, except on a CPU. Those whose rows several processes share (FSDP)
    are joined to be orthogonalized, in every process; their momentum is shared as they are.

    Before a step, a caller may set two attributes, as for torch's fused optimizers (torch.amp.GradScaler does), to
    float32 tensors without dimensions. The step does not wait for their values, and leaves the attributes as they are:

    - `found_inf`: if it is 1, weights, moments and momentum stay exactly as they are, even if gradients are NaN.
    - `grad_scale`: every gradient is divided by it. As in torch, AdamW's are divided in place.

    Both need AdamW's fused kernel; `supports_found_inf` tells whether it is used. Without it, `step` raises ValueError
    if one of them is set.

    Args:
        matrices: parameter groups for Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), with
            two-dimensional parameters only. Their updates are scaled to the size of AdamW's, so that one learning rate
            suits both (Liu et al. 2025, https://arxiv.org/abs/2502.16982).
        others: parameter groups for AdamW; may be empty.
        lr: the learning rate.
        momentum: Muon's Nesterov momentum.
        betas, eps, fused: AdamW's.
        dtype: the dtype of the products that orthogonalize an update. bfloat16 suffices where the hardware multiplies
            it; elsewhere it took forty times as long as float32. (torch.optim.Muon always uses bfloat16.)

    >>> matrix, bias = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2))
    >>> optimizer = MuonWithAdamW([{"params": [matrix]}], [{"params": [bias]}], lr=0.1, fused=True)
    >>> (matrix.sum() + bias.sum()).backward()
    >>> optimizer.found_inf = torch.tensor(1.0)
    >>> optimizer.step()
    >>> matrix[0, 0].item(), bias[0].item()
    (1.0, 1.0)
    >>> optimizer.found_inf = torch.tensor(0.0)
    >>> optimizer.step()
    >>> matrix[0, 0].item() < 1, round(bias[0].item(), 6)
    (True, 0.9)
    """

    # Not set here: GradScaler multiplies by a `grad_scale` that it finds, and deletes both after a step.
    found_inf: torch.Tensor | None
    grad_scale: torch.Tensor | None

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
        others = [{"weight_decay": 0.0, **group} for group in others]
        # An adapter consists of matrices only, and torch refuses to make an optimizer of nothing.
        self._adamw = torch.optim.AdamW(others, lr, betas, eps, fused=fused) if others else None
        if self._adamw is not None:
            others = self._adamw.param_groups
        matrices = [{"weight_decay": 0.0, **group, "momentum": momentum} for group in matrices]
        super().__init__([*matrices, *others], {"lr": lr})

    @property
    def supports_found_inf(self) -> bool:
        """Whether a step heeds `found_inf` and `grad_scale`: whether AdamW is fused."""
        return all(group["fused"] for group in self.param_groups if "momentum" not in group)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        return self.supports_found_inf  # GradScaler asks for it by this name

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = {name: getattr(self, name, None) for name in ("found_inf", "grad_scale")}
        for name, value in given.items():
            if value is not None and not self.supports_found_inf:
                raise ValueError(
                    f"{name}: received a tensor for an optimizer without AdamW's fused kernel. Accepted: None. Next "
                    "step: create the optimizer with fused=True (optim: adamw_torch_fused)."
                )
            if self._adamw is not None:
                setattr(self._adamw, name, value)
        # Only exactly 1 counts, as in torch's fused kernels.
        skip = None if given["found_inf"] is None else given["found_inf"] == 1
        for group in self.param_groups:
            if "momentum" in group:
                self._step_of_muon(group, skip, given["grad_scale"])
        if self._adamw is None:
            return loss
        # A checkpoint or a schedule may have replaced them since the last step.
        self._adamw.param_groups = [group for group in self.param_groups if "momentum" not in group]
        self._adamw.state = self.state
        self._adamw.step()
        return loss

    def _step_of_muon(self, group: dict[str, Any], skip: torch.Tensor | None, scale: torch.Tensor | None) -> None:
        alike: dict[Any, list[torch.Tensor]] = {}
        for matrix in group["params"]:
            if matrix.grad is not None:
                alike.setdefault((matrix.shape, matrix.device, matrix.dtype), []).append(matrix)
        for matrices in alike.values():
            at_once = matrices_at_once(matrices[0])
            for start in range(0, len(matrices), at_once):
                self._step_of_stack(matrices[start : start + at_once], group, skip, scale)

    def _step_of_stack(
        self,
        matrices: list[torch.Tensor],
        group: dict[str, Any],
        skip: torch.Tensor | None,
        scale: torch.Tensor | None,
    ) -> None:
        # Of a matrix that several processes share, all but the orthogonalization is done on this process's rows.
        shares = [own_rows(matrix) for matrix in matrices]
        # (n, rows, columns)
        gradients = _stacked([own_rows(matrix.grad) for matrix in matrices if matrix.grad is not None])
        if scale is not None:
            gradients = gradients / scale.to(gradients.device, non_blocking=True)
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        averages = [own_rows(self.state[matrix]["momentum_buffer"]) for matrix in matrices]
        before = _stacked(averages)
        after = before.lerp(gradients, 1 - group["momentum"])
        _replace(averages, before, after, skip)
        ahead = gradients.lerp(after, group["momentum"])
        del gradients, before, after  # a stack is large
        updates = on_whole(lambda whole: orthogonal(whole, self._dtype), ahead, like=matrices[0])
        del ahead
        size = 0.2 * max(matrices[0].shape) ** 0.5  # the root mean square of an AdamW update is about 0.2
        before = _stacked(shares)
        after = before.mul(1 - group["lr"] * group["weight_decay"]).add_(updates, alpha=-group["lr"] * size)
        _replace(shares, before, after, skip)


def matrices_at_once(matrix: torch.Tensor) -> int:
    """Return how many matrices like `matrix` are updated together: as many as ELEMENTS_AT_ONCE allows, 1 on a CPU.

    On a GPU, starting a kernel takes longer than a small product does. On a CPU, stacks took 1.07 to 1.17
    times as long (benchmarks/muon.py), probably because a single matrix stays in the cache.

    >>> matrices_at_once(torch.ones(2, 3)), matrices_at_once(torch.ones(768, 3072, device="meta"))
    (1, 28)
    """
    return 1 if matrix.device.type == "cpu" else max(1, ELEMENTS_AT_ONCE // matrix.numel())


def _stacked(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return tensors as one, with a first dimension more; a single one as it is."""
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors)


def _replace(tensors: list[torch.Tensor], before: torch.Tensor, after: torch.Tensor, skip: torch.Tensor | None) -> None:
    """Write what _stacked made of `tensors` back to them: `before` if `skip` is true, else `after`."""
    if skip is not None:
        # A product would not do: 0 * NaN is NaN.
        after = torch.where(skip.to(after.device, non_blocking=True), before, after)
    torch._foreach_copy_(tensors, [after] if len(tensors) == 1 else list(after.unbind()))


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
