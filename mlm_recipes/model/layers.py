"""Finds a model's layers, and what lies below each of them, by asking the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .sample_rows import asked, pad_id, padded, sample_rows


def repeated_layers(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the modules of every `ModuleList` whose modules have one class, at the outermost level.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    >>> [type(layer).__name__ for layer in repeated_layers(BertForMaskedLM(BertConfig(vocab_size=50, **size)))]
    ['BertLayer', 'BertLayer']
    """
    for child in module.children():
        layers = list(child.children())
        alike = len({type(layer) for layer in layers}) == 1 and not isinstance(layers[0], torch.nn.ModuleList)
        if isinstance(child, torch.nn.ModuleList) and alike:
            yield from layers
        else:
            yield from repeated_layers(child)


def encoder_layers(model: Any, option: str) -> list[torch.nn.Module]:
    """Return the layers of a model's encoder, the lowest first.

    Raises: ValueError, which names `option`, for a model whose layers share their weights, as ALBERT's, or are not
    found as a list of modules.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    >>> len(encoder_layers(BertForMaskedLM(BertConfig(vocab_size=50, **size)), "freeze"))
    2
    """
    layers, number = list(repeated_layers(model.base_model)), getattr(model.config, "num_hidden_layers", None)
    if layers and len(layers) == number:
        return layers
    name = type(model).__name__
    if layers and number is not None and len(layers) < number:
        raise ValueError(
            f"{option}: received a value for single layers, and the {number} layers of {name} share their weights. "
            f"Accepted: a model with weights of its own in each layer. Choose another model, or leave {option} out."
        )
    raise ValueError(
        f"{option}: received a value for single layers, and those of {name} were not found: {len(layers)} modules look "
        f"like a layer, and its config says {number}. Accepted: a model whose layers are a list, such as BERT or "
        f"ModernBERT. Choose another model, or leave {option} out."
    )


def weights_below(model: Any, tokenizer: Any, layer: torch.nn.Module, with_layer: bool) -> list[str]:
    """Return the names of the parameters that the input of a layer depends on, or its output `with_layer`.

    A model is shown two rows, and autograd tells. So these are an architecture's embeddings, whatever belongs to them:
    positions, token types, a LayerNorm, ELECTRA's projection. Parameters that are frozen already are not named.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> for name in weights_below(model, None, model.bert.encoder.layer[0], with_layer=False):
    ...     print(name)
    bert.embeddings.word_embeddings.weight
    bert.embeddings.position_embeddings.weight
    bert.embeddings.token_type_embeddings.weight
    bert.embeddings.LayerNorm.weight
    bert.embeddings.LayerNorm.bias
    """
    found: list[torch.Tensor] = []
    if with_layer:
        handle = layer.register_forward_hook(lambda module, args, output: found.append(_states(output)))
    else:
        handle = layer.register_forward_pre_hook(
            lambda module, args, kwargs: found.append(_states((*args, *kwargs.values()))), with_kwargs=True
        )
    learning = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    try:
        with asked(model), torch.enable_grad():
            model(**padded(sample_rows(model, [8, 8], tokenizer), pad_id(model, tokenizer)))
            if not learning or not found[0].requires_grad:
                return []
            gradients = torch.autograd.grad(found[0].sum(), list(learning.values()), allow_unused=True)
    finally:
        handle.remove()
    return [name for name, gradient in zip(learning, gradients, strict=True) if gradient is not None]


def depths(model: Any, tokenizer: Any, option: str) -> dict[str, int]:
    """Return the depth of each parameter of a model with L layers: 0 for the embeddings, 1 to L, L + 1 for the head.

    What every layer uses, such as DeBERTa's relative positions, has depth 0. What follows the last layer, such as
    ModernBERT's last LayerNorm, belongs to the head. A head's matrix that is the embeddings' has their depth.

    Raises: ValueError as `encoder_layers`.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    >>> found = depths(BertForMaskedLM(BertConfig(vocab_size=50, **size)), None, "layerwise_lr_decay")
    >>> [found[f"bert.{name}.weight"] for name in ("embeddings.LayerNorm", "encoder.layer.1.output.dense")]
    [0, 2]
    >>> found["cls.predictions.bias"], "cls.predictions.decoder.weight" in found
    (3, False)
    """
    layers = encoder_layers(model, option)
    of_weight = {id(weight): depth for depth, layer in enumerate(layers, 1) for weight in layer.parameters()}
    below = set(weights_below(model, tokenizer, layers[-1], with_layer=True))
    top = len(layers) + 1
    return {name: of_weight.get(id(weight), 0 if name in below else top) for name, weight in model.named_parameters()}


def _states(values: Any) -> torch.Tensor:
    """Return the first floating-point tensor of a layer's arguments or results: the hidden states."""
    several = values if isinstance(values, tuple | list) else [values]
    return next(each for each in several if isinstance(each, torch.Tensor) and each.is_floating_point())
