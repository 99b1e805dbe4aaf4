"""LoRA: trains a low-rank update of each linear layer of the encoder, and keeps the model's own weights as they are.

The update of a layer with the weight W is `alpha / r * B A`, with A of shape `(r, inputs)`, random at first, and B of
shape `(outputs, r)`, zero at first (Hu et al. 2021, https://arxiv.org/abs/2106.09685). The library peft computes it.

The layers are injected into the model (`add_adapter` of transformers), and the model keeps its class. peft's own
wrapper, `get_peft_model`, has an attribute `base_model` too, which is the whole model and not the encoder: the head
would be computed at every position, and all weights would have other names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from ..sources.escaping import first_line
from .sample_rows import REFUSALS, asked, pad_id, padded, sample_rows

#: The name under which peft keeps the adapter; its files do not have it.
NAME = "default"


@dataclass(frozen=True)
class Lora:
    """An adapter that `add_lora` has added.

    Attributes:
        r: the rank.
        alpha: the updates are multiplied by alpha / r.
        layers: the names of the linear layers that have an update.
        head: the names of the parts of the head that are trained whole.
        parameters: the number of the model's own parameters.
        trained: the number of parameters that are trained.
    """

    r: int
    alpha: float
    layers: tuple[str, ...]
    head: tuple[str, ...]
    parameters: int
    trained: int

    def __str__(self) -> str:
        """Describe the adapter in a sentence."""
        layers = f"{len(self.layers)} linear layer{'s' if len(self.layers) > 1 else ''}"
        new = f", with the head ({', '.join(self.head)})" if self.head else ""
        share = self.trained / self.parameters
        return f"LoRA: r {self.r} on {layers}{new}, {share:.1%} of the parameters are trained."


def has_adapter(model: Any) -> bool:
    """Tell whether a model of transformers has an adapter injected.

    >>> has_adapter(torch.nn.Linear(2, 2))
    False
    """
    return isinstance(model, PreTrainedModel) and bool(getattr(model, "peft_config", None))


def add_lora(
    model: Any,
    *,
    r: int = 16,
    alpha: float = 32,
    dropout: float = 0.0,
    targets: Sequence[str] = ("all-linear",),
    tokenizer: Any = None,
    new_weights: Collection[str] = (),
    train_head: bool = False,
    base: str | None = None,
    revision: str | None = None,
) -> Lora:
    """Add a LoRA adapter to a model, in place, and freeze everything else; return what was added.

    Args:
        model: a masked-language model of transformers, in float32.
        r, alpha, dropout: of the updates.
        targets: which layers get one (`chosen_layers`).
        tokenizer: the model's, whose special tokens are shown to it; without it, those of its config.
        new_weights: names of weights that started from random values. What the head has of them is trained whole, since
            a random head that stays as it is predicts nothing.
        train_head: whether the head is trained whole in any case, all but its projection to the vocabulary.
        base: the name or path of the model, which the adapter's files will state.
        revision: its revision on the hub.

    The random values are from torch's generator: seed it first. Raises: ValueError if there is no such layer.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> print(add_lora(model, r=2, targets=["query", "value"]))  # doctest: +SKIP
    LoRA: r 2 on 2 linear layers, 1.1% of the parameters are trained.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraLayer

    layers = chosen_layers(linear_layers(model, tokenizer), targets, type(model).__name__)
    head = head_parts(model, None if train_head else new_weights)
    head += [name for name in head_parts(model, new_weights) if name not in head]
    parameters = model.num_parameters()
    scale: Any = alpha  # peft's annotation says int, its code divides
    model.add_adapter(
        LoraConfig(r=r, lora_alpha=scale, lora_dropout=dropout, target_modules=layers, modules_to_save=head or None),
        NAME,
    )
    config = model.peft_config[NAME]
    config.base_model_name_or_path, config.revision = base, revision
    for module in model.modules():
        if isinstance(module, LoraLayer):
            # Without this, peft copies the input of each layer to float32 under autocast, and autocast copies it back.
            module.cast_input_dtype_enabled = False
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return Lora(r, alpha, tuple(layers), tuple(head), parameters, trained)


def linear_layers(model: Any, tokenizer: Any = None) -> list[str]:
    """Return the names of the linear layers of a model's encoder, in order.

    The model itself is asked, on two short rows: a layer counts if it is called, and if the predictions depend on it.
    The vocabulary head is not part of the encoder. Whether a layer's weight is frozen makes no difference.

    Raises: ValueError if there are none.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> [name.removeprefix("bert.encoder.layer.0.") for name in linear_layers(BertForMaskedLM(BertConfig(**size)))]
    ['attention.self.query', 'attention.self.key', 'attention.self.value', 'attention.output.dense', \
'intermediate.dense', 'output.dense']
    """
    kind = type(model).__name__
    if model.base_model is model:
        raise ValueError(f"peft: received 'lora' with {kind}, which has no encoder apart from its head. {_ACCEPTED}")
    inside = {id(module) for module in model.base_model.modules()}
    candidates = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and id(module) in inside
    }
    called: set[int] = set()
    handles = [
        module.register_forward_hook(lambda module, args, output: called.add(id(module)))
        for module in candidates.values()
    ]
    batch = padded(sample_rows(model, [8, 8], tokenizer), pad_id(model, tokenizer))
    frozen = [module.weight for module in candidates.values() if not module.weight.requires_grad]
    try:
        for weight in frozen:  # autograd does not tell what depends on it otherwise
            weight.requires_grad_(True)
        with asked(model), torch.enable_grad():
            logits = model(**batch).logits
            used = {name: module.weight for name, module in candidates.items() if id(module) in called}
            gradients = torch.autograd.grad(logits.sum(), list(used.values()), allow_unused=True) if used else ()
    except REFUSALS as error:
        raise ValueError(
            f"peft: received 'lora' with {kind}, which could not be asked for its layers ({first_line(error)}). "
            f"{_ACCEPTED}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for weight in frozen:
            weight.requires_grad_(False)
    found = [name for name, gradient in zip(used, gradients, strict=True) if gradient is not None]
    if not found:
        raise ValueError(f"peft: received 'lora' with {kind}, whose encoder has no linear layers. {_ACCEPTED}")
    return found


_ACCEPTED = (
    "Accepted: an encoder of torch.nn.Linear layers, such as BERT, RoBERTa or ModernBERT. Leave peft out to train the "
    "whole model."
)


def chosen_layers(layers: Sequence[str], targets: Sequence[str], kind: str = "the model") -> list[str]:
    """Return the names of the layers that `targets` names, in order.

    Args:
        layers: the names of all layers.
        targets: `all-linear`; `attention`: those within a part that is called attention or attn; or the ends of names.
        kind: the model's class, for the message.

    Raises: ValueError for a target that is none of these, with those that there are.

    >>> layers = ["layer.0.attention.query", "layer.0.attention.dense", "layer.0.output.dense"]
    >>> chosen_layers(layers, ["attention"]), chosen_layers(layers, ["output.dense", "query"])
    (['layer.0.attention.query', 'layer.0.attention.dense'], ['layer.0.attention.query', 'layer.0.output.dense'])
    """
    chosen: set[str] = set()
    for target in targets:
        found = [name for name in layers if _is_named(name, target)]
        if not found:
            ends = dict.fromkeys(name.rpartition(".")[2] for name in layers)
            raise ValueError(
                f"lora_target_modules: received {target!r}, and {kind} has no such layers. Accepted: all-linear, "
                f"attention, or names of its layers: {', '.join(ends)}. A longer end of a name, such as "
                f"{'.'.join(layers[-1].split('.')[-2:])}, names fewer of them. Correct the name."
            )
        chosen.update(found)
    return [name for name in layers if name in chosen]


def _is_named(name: str, target: str) -> bool:
    if target == "attention":
        return any("attention" in part or "attn" in part for part in name.lower().split("."))
    return target == "all-linear" or f".{name}".endswith(f".{target}")


def head_parts(model: Any, new_weights: Collection[str] | None = None) -> list[str]:
    """Return the names of the parts of the head, each as large as it can be saved by itself.

    With `new_weights`, only those parts that hold one of them; without, all but the projection to the vocabulary, which
    may be as large as the encoder. A part that shares a weight with the encoder, as that projection usually does with
    the embeddings, cannot be saved by itself. Nor can a bias that lies beside such a part: a new one is zero, and the
    layer before it can learn the same.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> head_parts(BertForMaskedLM(BertConfig(**size)))
    ['cls.predictions.transform']
    """
    apart = {id(weight) for weight in model.base_model.parameters()}
    projection = model.get_output_embeddings()
    if new_weights is None and projection is not None:
        apart.update(id(weight) for weight in projection.parameters())

    def parts(name: str, module: torch.nn.Module) -> Iterator[str]:
        own = [id(weight) for weight in module.parameters()]
        if module is model.base_model or not own:
            return
        if name and not apart.intersection(own):
            yield name
            return
        for child, inner in module.named_children():
            yield from parts(f"{name}.{child}" if name else child, inner)

    found = list(parts("", model))
    if new_weights is None:
        return found
    return [name for name in found if any(f"{weight}.".startswith(f"{name}.") for weight in new_weights)]


def base_fingerprint(model: Any) -> str:
    """Return a hash of the weights of a model with an adapter that the adapter's files lack, 16 hexadecimal digits.

    A part that is trained whole replaces the one that it began as, which is left out too.
    """
    from peft import get_peft_model_state_dict
    from peft.utils import ModulesToSaveWrapper

    apart = {
        weight.data_ptr()
        for name in model.peft_config
        for weight in get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False).values()
    }
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            apart.update(weight.data_ptr() for weight in module.parameters())
    digest = hashlib.sha256()
    for _, weight in sorted(model.named_parameters()):
        if weight.data_ptr() not in apart:
            digest.update(weight.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def merge_lora(model: Any) -> None:
    """Add the updates of an adapter to the model's weights, in place; then it has no adapter.

    Its outputs are the same as before, except for rounding. The weights stay frozen.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    del model.peft_config
    model._hf_peft_config_loaded = False  # otherwise save_pretrained would look for an adapter
