"""How large a model is, in the numbers that its cost depends on: from its config, or from a count of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: BERT-base: 12 layers of 768, so 64 of width a layer; BERT-large has 43, ModernBERT-base 35.
_WIDTH_A_LAYER = 64
#: BERT's vocabulary, which `--params` assumes.
BERT_VOCABULARY = 30_522
#: BERT's positions and token types, which `--params` counts too.
_POSITIONS = 514


@dataclass(frozen=True)
class ModelShape:
    """The sizes of an encoder with a masked-language-modelling head.

    Attributes:
        described: the shape in words.
        parameters: all of them; a tied matrix counts once.
        encoder: weights of the matrices that every token passes.
        head: weights of the matrices that only predicted tokens pass: the vocabulary's and what precedes it.
        hidden: the width.
        intermediate: the width inside a feed-forward layer.
        gated: whether the feed-forward layers have a gate, such as GeGLU, so three matrices instead of two.
        vocabulary: the number of logits of a token.
        spans: for each layer, how many tokens a token attends to at most; None for all of its row.
    """

    described: str
    parameters: float
    encoder: float
    head: float
    hidden: int
    intermediate: int
    gated: bool
    vocabulary: int
    spans: tuple[int | None, ...]

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.spans)

    def operations_per_token(self, length: float, predicted: float) -> float:
        """Return the operations that training takes for each token: forward and backward, matrix products only.

        Six for each weight that a token passes (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361), and 12 for each
        layer, unit of width and token attended to (Narayanan et al. 2021, https://arxiv.org/abs/2104.04473).

        Args:
            length: tokens in a row.
            predicted: the share of the tokens that passes the head: the masked ones, or 1.

        >>> bert_base = typical_shape(110e6)
        >>> round(bert_base.operations_per_token(512, 0.15) / 1e6), round(bert_base.operations_per_token(512, 1) / 1e6)
        (592, 714)
        """
        attended = sum(length if span is None else min(length, span) for span in self.spans)
        return 6 * (self.encoder + predicted * self.head) + 12 * self.hidden * attended


def typical_shape(parameters: float, vocabulary: int = BERT_VOCABULARY) -> ModelShape:
    """Return the shape of a BERT with about so many parameters, of BERT-base's proportions.

    Raises: ValueError if the vocabulary alone would have most of them.

    >>> typical_shape(110e6).described
    "assumed: BERT's, 12 layers of 768, 30,522 tokens in the vocabulary"
    >>> typical_shape(335e6).layers
    18
    """

    def outside(layers: int) -> int:
        """Embeddings, and the matrix before the vocabulary's, which shares the embeddings' weights."""
        hidden = _WIDTH_A_LAYER * layers
        return hidden * (vocabulary + _POSITIONS) + hidden**2

    def whole(layers: int) -> int:
        return outside(layers) + 12 * layers * (_WIDTH_A_LAYER * layers) ** 2

    layers = min(range(1, 200), key=lambda number: abs(whole(number) - parameters))
    hidden, encoder = _WIDTH_A_LAYER * layers, parameters - outside(layers)
    if encoder < 0.05 * parameters:
        raise ValueError(
            f"params: received {parameters:,.0f} with a vocabulary of {vocabulary:,}, which has most of them. "
            f"Accepted: at least {whole(1):,}. Name the model instead, with --model, or a smaller --vocab_size."
        )
    return ModelShape(
        f"assumed: BERT's, {layers} layers of {hidden}, {vocabulary:,} tokens in the vocabulary",
        parameters, encoder, hidden * vocabulary + hidden**2, hidden, 4 * hidden, False, vocabulary, (None,) * layers,
    )  # fmt: skip


def shape_of_model(name: str, trust_remote_code: str | None = None) -> ModelShape:
    """Return the shape of a built-in model, a local folder's or a hub model's, from its config; no weights are loaded.

    Raises: ValueError for a name that is none of these, or a model without a masked-language-modelling head.

    >>> shape = shape_of_model("mini-random")
    >>> shape.described, shape.layers, shape.gated, shape.spans
    ('modernbert, 4 layers of 256, 8,192 tokens in the vocabulary', 4, True, (None, 128, 128, None))
    """
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM

    from ...model.load_errors import explained
    from ...sources import remote_code
    from ...sources.model_folder import find_folder

    trusted = remote_code.is_trusted(name, trust_remote_code)
    try:
        folder = find_folder("tokenizer", name, None, trusted)  # a model's files without its weights
    except ValueError as error:
        raise ValueError(str(error).replace("tokenizer", "model")) from error
    code = remote_code.arguments(name, folder, trust_remote_code)
    with explained(name, folder):
        config = AutoConfig.from_pretrained(folder, **code)
        with torch.device("meta"):  # the sizes of the weights, without the weights
            model = AutoModelForMaskedLM.from_config(config, **code)
    return shape_of(model, config)


def shape_of(model: Any, config: Any) -> ModelShape:
    """Return the shape of a model object, which may be on torch's device `meta`.

    Raises: ValueError if the config does not say how many layers there are and how wide they are.
    """
    import torch

    sizes = {name: getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size")}
    if missing := [name for name, value in sizes.items() if not isinstance(value, int)]:
        raise ValueError(
            f"model: the config of {config.model_type} does not say its {' and '.join(missing)}. Accepted: an encoder "
            "whose config has them. Use --params with the number of its parameters."
        )
    layers, hidden = int(config.num_hidden_layers), int(config.hidden_size)
    within = {id(module) for module in model.base_model.modules()}
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    encoder = sum(module.weight.numel() for module in linear if id(module) in within)
    head = sum(module.weight.numel() for module in linear if id(module) not in within)
    # What a layer has beside its four matrices of attention is feed-forward: two matrices, or three with a gate.
    intermediate = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    gated = encoder / layers - 4 * hidden**2 > 2.5 * hidden * intermediate
    return ModelShape(
        f"{config.model_type}, {layers} layers of {hidden}, {config.vocab_size:,} tokens in the vocabulary",
        sum(weight.numel() for weight in model.parameters()),
        encoder, head, hidden, intermediate, gated, int(config.vocab_size), spans_of(vars(config), layers),
    )  # fmt: skip


def spans_of(config: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    """Return for each layer how many tokens a token attends to at most; None for its whole row.

    `layer_types` names the layers with a sliding window, and `sliding_window` or `local_attention` is its width.

    >>> spans_of({"layer_types": ["full_attention", "sliding_attention"], "local_attention": 128}, 2)
    (None, 128)
    """
    window = config.get("local_attention") or config.get("sliding_window")
    kinds: Sequence[str] = config.get("layer_types") or ()
    if not window or len(kinds) != layers:
        return (None,) * layers
    return tuple(int(window) if kind == "sliding_attention" else None for kind in kinds)
