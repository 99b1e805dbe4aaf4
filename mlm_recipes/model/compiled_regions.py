"""Compiles a model by region: each of its layers and its head, in place.

Layers of one class share one compiled graph, so compiling takes as long for twelve layers as for one or two. What lies
between the regions stays as it is, such as the forward hooks on `base_model` that `sparse_prediction` sets
(https://docs.pytorch.org/tutorials/recipes/regional_compilation.html).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .layers import repeated_layers


def find_regions(model: torch.nn.Module, encoder: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the repeated layers of `encoder`, then the parts of `model` outside it, which are its head.

    The layers are the modules of every `ModuleList` whose modules have one class, at the outermost level. A module
    without submodules is left out, such as a single linear layer: it has nothing that could be fused.

    Returns an empty list if there are no such layers.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> [type(region).__name__ for region in find_regions(model, model.base_model)]
    ['BertLayer', 'BertLayer', 'BertOnlyMLMHead']
    """
    layers = [layer for layer in repeated_layers(encoder) if _can_fuse(layer)]
    head = [child for child in model.children() if child is not encoder and _can_fuse(child)]
    return layers + head if layers else []


def compile_regions(regions: Iterable[torch.nn.Module], **options: object) -> None:
    """Compile modules in place, for inputs of any shape; nothing is computed before they are called.

    `options` are those of `torch.compile`, such as `backend` and `mode`. The modules, their parameters and their names
    in a state dict stay the same, and copies of them are not compiled.

    >>> layer = torch.nn.Linear(2, 3)
    >>> compile_regions([layer], backend="eager")
    >>> layer(torch.zeros(5, 2)).shape, sorted(layer.state_dict())
    (torch.Size([5, 3]), ['bias', 'weight'])
    >>> restore_regions([layer])
    """
    for region in regions:
        region.compile(dynamic=True, fullgraph=False, **options)


def restore_regions(regions: Iterable[torch.nn.Module]) -> None:
    """Undo `compile_regions`."""
    for region in regions:
        region._compiled_call_impl = None  # what it was before Module.compile


def _can_fuse(module: torch.nn.Module) -> bool:
    return any(True for _ in module.children()) and any(True for _ in module.parameters())
