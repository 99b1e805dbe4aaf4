"""Muon for the weight matrices inside a model, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch


class MuonWithAdamW(torch.optim.Optimizer):
    """One optimizer made of torch's Muon and AdamW, each with its own parameters, both with the same learning rate.

    Args:
        matrices: parameter groups for Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon); all
            parameters have two dimensions. Their updates are scaled to the size of AdamW's, so that one learning rate
            suits both (Liu et al. 2025, https://arxiv.org/abs/2502.16982).
        others: parameter groups for AdamW.
        lr: the learning rate.
        betas, eps: AdamW's.
        fused: AdamW's update in one kernel.

    >>> matrix, bias = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2))
    >>> optimizer = MuonWithAdamW([{"params": [matrix]}], [{"params": [bias]}], lr=0.1)
    >>> (matrix.sum() + bias.sum()).backward()
    >>> optimizer.step()
    >>> matrix[0, 0].item() < 1, bias.tolist()
    (True, [0.8999999761581421, 0.8999999761581421])
    """

    def __init__(
        self,
        matrices: list[dict[str, Any]],
        others: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool = False,
    ) -> None:
        self._muon = torch.optim.Muon(_with(matrices, 0.0), lr=lr, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(_with(others, 0.0), lr=lr, betas=betas, eps=eps, fused=fused)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # A checkpoint or a schedule may have put others in their place since the last step.
        count = len(self._muon.param_groups)
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:count], self.param_groups[count:]
        self._muon.state = self._adamw.state = self.state
        self._muon.step()
        self._adamw.step()
        return loss


def muon_with_adamw(
    model: torch.nn.Module, decayed: Collection[str], weight_decay: float, **kwargs: Any
) -> MuonWithAdamW:
    """Return a MuonWithAdamW for `model`: Muon has every matrix but embeddings and the vocabulary's head.

    Args:
        model: a transformers model.
        decayed: names of the parameters that weight decay applies to.
        weight_decay: for these.
        kwargs: as for MuonWithAdamW.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> optimizer = muon_with_adamw(BertForMaskedLM(BertConfig(vocab_size=50, **size)), (), 0.0, lr=1e-3)
    >>> [len(group["params"]) for group in optimizer.param_groups if group["params"]]  # q, k, v, o, up, down, transform
    [7, 20]
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


def _with(groups: list[dict[str, Any]], weight_decay: float) -> list[dict[str, Any]]:
    return [{"weight_decay": weight_decay, **group} for group in groups]
