"""Counts the operations that training each linear module of a model takes."""

from __future__ import annotations

from typing import Any

import torch

from .sample_rows import asked, pad_id, padded, sample_rows


def linear_operations(model: Any) -> dict[torch.nn.Linear, int]:
    """Return the operations per weight and token of each linear module: 2 forward, and up to 4 backward.

    A frozen weight needs no gradient of its own, which saves 2, and what lies below the lowest trained parameter passes
    no gradient on, which saves another 2. If anything is frozen, the model is shown two rows, and autograd tells.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> set(linear_operations(model).values())
    {6}
    >>> for weight in model.bert.parameters():
    ...     _ = weight.requires_grad_(False)
    >>> head, found = model.cls.predictions, linear_operations(model)
    >>> [found[module] for module in (model.bert.encoder.layer[0].output.dense, head.transform.dense, head.decoder)]
    [2, 4, 4]
    """
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    if all(weight.requires_grad for weight in model.parameters()):
        return dict.fromkeys(linear, 6)
    passes_on: dict[torch.nn.Module, bool] = {}

    def note(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        passes_on[module] = args[0].requires_grad

    handles = [module.register_forward_pre_hook(note) for module in linear]
    try:
        with asked(model), torch.enable_grad():
            model(**padded(sample_rows(model, [8, 8]), pad_id(model)))
    finally:
        for handle in handles:
            handle.remove()
    # A module that was not called, such as an expert, counts as little as it can.
    return {module: 2 + 2 * module.weight.requires_grad + 2 * passes_on.get(module, False) for module in linear}
