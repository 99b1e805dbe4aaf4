"""Freezes a part of a model: the embeddings, the lower layers too, or everything but the head."""

from __future__ import annotations

import re
from typing import Any

from ..metrics_file import Frozen
from .layers import encoder_layers, repeated_layers, weights_below
from .lora import has_adapter

#: The attribute of a model that names what `freeze` froze, so that another run can train it again, and says whether the
#: model had an adapter then. A copy has it too.
_FROZEN = "_frozen_by_mlm_recipes"

_ACCEPTED = (
    "Accepted: none, embeddings, lower-N (the embeddings and the first N layers, such as lower-2), or body (everything "
    "but the head)."
)


def lower_layers(what: str) -> int | None:
    """Return the N of `lower-N`, or None for another part of a model.

    Raises: ValueError for what is no part.

    >>> lower_layers("lower-2"), lower_layers("embeddings")
    (2, None)
    """
    found = re.fullmatch(r"lower-([1-9][0-9]*)", str(what))
    if found is not None:
        return int(found[1])
    if what in ("none", "embeddings", "body"):
        return None
    near = re.fullmatch(r"lower\D*(\d+)", str(what))
    meant = f"lower-{int(near[1])}" if near is not None and int(near[1]) else "embeddings"
    raise ValueError(f"freeze: received {what!r}. {_ACCEPTED} Write --freeze {meant}.")


def freeze(model: Any, what: str, tokenizer: Any = None) -> None:
    """Freeze a part of a model: its parameters get no gradient, no update and no optimizer state.

    Nothing is computed backward below the lowest parameter that is trained. Dropout stays on in frozen layers. What an
    earlier call froze, and this one does not, is trained again, unless the model got an adapter since, whose files
    would lack it. What the caller froze by hand stays frozen.

    Args:
        model: a masked-language model.
        what: `none`; `embeddings`: all that the first layer's input depends on; `lower-N`: all that the output of the
            first N layers depends on; `body`: all but the head. A head's matrix that is the embeddings' is frozen with
            them, and its bias is not.
        tokenizer: the model's.

    Raises: ValueError for another `what`, more layers than there are, layers that share their weights, and a model
    whose layers or head are not found.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> freeze(model, "body")
    >>> for name, weight in model.named_parameters():
    ...     if weight.requires_grad:
    ...         print(name)
    cls.predictions.bias
    cls.predictions.transform.dense.weight
    cls.predictions.transform.dense.bias
    cls.predictions.transform.LayerNorm.weight
    cls.predictions.transform.LayerNorm.bias
    """
    number = lower_layers(what)
    weights = dict(model.named_parameters())
    adapted, before = vars(model).pop(_FROZEN, (has_adapter(model), ()))
    if adapted == has_adapter(model):  # an adapter added since has frozen all of the model's own weights
        for name in before:
            weights[name].requires_grad_(True)
    if what == "none":
        return
    if number is not None:
        layers = encoder_layers(model, "freeze")
        if number > len(layers):
            raise ValueError(
                f"freeze: received {what!r}, and {type(model).__name__} has {len(layers)} layers. Accepted: lower-1 "
                f"to lower-{len(layers)}. Write --freeze lower-{max(1, len(layers) // 2)}, or --freeze body."
            )
        names = weights_below(model, tokenizer, layers[number - 1], with_layer=True)
        # Autograd does not name what the two rows did not need, such as the router of an expert.
        lower = {id(weight) for layer in layers[:number] for weight in layer.parameters()}
        names += [name for name, weight in weights.items() if id(weight) in lower and name not in names]
    elif what == "embeddings":
        first = next(repeated_layers(model.base_model), None)
        if first is None:
            raise ValueError(
                f"freeze: received 'embeddings', and no layers were found in {type(model).__name__}, so its embeddings "
                "are not known. Accepted: none or body for this model. Write --freeze body."
            )
        names = weights_below(model, tokenizer, first, with_layer=False)
    else:
        if model.base_model is model:
            raise ValueError(
                f"freeze: received 'body', and {type(model).__name__} does not tell its head from the rest. Accepted: "
                "none, embeddings or lower-N for this model. Write --freeze embeddings."
            )
        names = [name for name in weights if id(weights[name]) in _ids(model.base_model)]
    frozen = [name for name in names if weights[name].requires_grad]
    for name in frozen:
        weights[name].requires_grad_(False)
    vars(model)[_FROZEN] = has_adapter(model), frozen


def frozen_facts(model: Any, what: str) -> Frozen:
    """Return what metrics.json has under `train.frozen`: what is frozen, and how many parameters are trained.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, max_position_embeddings=16, **size))
    >>> freeze(model, "embeddings")
    >>> frozen_facts(model, "embeddings")
    {'part': 'embeddings', 'parameters': 1162, 'trained_parameters': 602, 'head_matrix': True}
    """
    head: Any = model.get_output_embeddings()
    return {
        "part": what,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "trained_parameters": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        "head_matrix": head is not None and not head.weight.requires_grad,
    }


def _ids(module: Any) -> set[int]:
    return {id(weight) for weight in module.parameters()}
