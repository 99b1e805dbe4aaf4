"""Longer rows: gives a model positions beyond those that it was trained on."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from transformers import PreTrainedModel

from .positions import first_position, max_positions, takes
from .rope_base import Base, rotary_bases
from .sample_rows import REFUSALS, asked, sample_rows

logger = logging.getLogger(__name__)

#: The most tokens in the row whose logits are compared before and after: attention to more takes gigabytes.
_COMPARED = 1024


def extend_positions(
    model: PreTrainedModel, length: int, tokenizer: Any = None, *, random_weights: bool = False
) -> PreTrainedModel:
    """Return a model like `model` that takes rows of `length` tokens; one line is logged that says how.

    The new model is made from `model`'s config with more positions, so whatever the class computes from their number
    is right, and the saved config loads at the new length. It gets `model`'s weights; `model` itself is unchanged.

    - **A learned table of positions** is copied end to end until it is full, as in Longformer (Beltagy et al. 2020,
      https://arxiv.org/abs/2004.05150). The entries before the first position (RoBERTa has `padding_idx + 1` of them)
      are copied once. Rows of the former length give exactly the same logits as before. In longer ones, full attention
      sees each position several times until it has been trained on them; Longformer's windows do not.
    - **Rotary positions**: their base is raised (`mlm_recipes.model.rope_base`), in layers that see the whole row.
    - **Relative or computed positions** (DeBERTa-v2, MPNet's distances, RoFormer, ALiBi) need no new weights.

    Args:
        model: a masked-language model, with no changes made to it since it was loaded.
        length: the number of tokens in the longest row.
        tokenizer: its `model_max_length` is raised to `length`.
        random_weights: whether the weights are random and have learned nothing about positions. The new model then has
            random weights of the same distribution, in which nothing is copied, and the base of rotary positions stays.

    A model that has `length` positions already, or takes rows of any length, is returned as it is.

    Raises: ValueError for fewer positions than the model has, or a model whose positions are of another kind.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> bert = BertForMaskedLM(BertConfig(vocab_size=50, max_position_embeddings=4, **size))
    >>> longer = extend_positions(bert, 10)
    >>> table = longer.bert.embeddings.position_embeddings.weight
    >>> table.shape[0], bool((table[4:8] == table[:4]).all()), longer.config.max_position_embeddings
    (10, True, 10)
    """
    before = max_positions(model)
    if length < before < 2**31:
        raise ValueError(
            f"extend_positions: received {length}. Accepted: more than {before}, the positions that "
            f"{type(model).__name__} has already. For shorter rows pass --max_length {length} instead."
        )
    if before >= length:
        why = "states no limit" if before >= 2**31 else f"has {before:,} positions already"
        logger.info("extend_positions: the model %s, so nothing was changed.", why)
        longer, how = model, ""
    elif random_weights:
        longer, how = _made(model, _longer_config(model, length)), "its weights are random, and nothing was copied"
    else:
        longer, how = _extended(model, length)
    if not takes(longer, length):
        raise _refusal(model, length, f"it does not take rows of {length} tokens even then")
    if tokenizer is not None and tokenizer.model_max_length < length:
        tokenizer.model_max_length = length
    if how:
        then = "" if random_weights else " Train on long rows before you use them."
        logger.info("extend_positions: %s -> %s positions; %s.%s", f"{before:,}", f"{length:,}", how, then)
    return longer


def require_positions(model: PreTrainedModel, length: int | None) -> None:
    """Raise ValueError if a model object has fewer than the `length` positions that its config asks for."""
    if length is not None and (has := max_positions(model)) < length:
        raise ValueError(
            f"extend_positions: received {length} with a model object that has {has} positions. Accepted: a model "
            f"that has them. Pass the model's name instead of the object, or extend it before: model = "
            f"mlm_recipes.model.longer_positions.extend_positions(model, {length}, tokenizer)."
        )


def _extended(model: PreTrainedModel, length: int) -> tuple[PreTrainedModel, str]:
    """Return a longer model with the weights of `model`, and what was done to its positions."""
    config = _longer_config(model, length)
    longer = _made(model, config)
    grown = [name for name, old in model.named_parameters() if old.shape != longer.get_parameter(name).shape]
    bases = [] if grown else list(rotary_bases(config))
    if bases:
        scale = length / max_positions(model)
        for base in bases:
            base.raise_for(scale)
        longer = _made(model, config)
    copied = _copy_weights(model, longer, length, frequencies=not bases)
    same = _same_logits(model, longer)
    if bases:
        if same:  # or the base in its config is not what the model turns by
            raise _refusal(model, length, "its rotary positions do not depend on the base in its config")
        return longer, _how_turned(bases, config)
    if not same:
        raise _refusal(model, length, "rows of the former length would give other logits")
    if copied:
        times = f"{length / max_positions(model):.3g}".removesuffix(".0")
        what = "the learned table of positions is" if len(copied) == 1 else f"{len(copied)} tables of positions are"
        return longer, f"{what} copied end to end, {times} times, as in Longformer (arXiv:2004.05150)"
    if grown:
        return longer, "its positions are computed, and longer rows have more of them"
    return longer, "it learns no positions one by one, so nothing was copied"


def _longer_config(model: PreTrainedModel, length: int) -> Any:
    config: Any = copy.deepcopy(model.config)
    now = getattr(config, "max_position_embeddings", None)
    if not isinstance(now, int):
        raise _refusal(model, length, "its config.json has no max_position_embeddings")
    # DeBERTa limits its distances by the number of positions, unless told otherwise.
    if getattr(config, "relative_attention", False) and getattr(config, "max_relative_positions", 0) < 1:
        config.max_relative_positions = now
    # RoBERTa counts the entries before the first position, and Nystromformer does not; so by the difference.
    config.max_position_embeddings = now + length - max_positions(model)
    return config


def _made(model: PreTrainedModel, config: Any) -> PreTrainedModel:
    """Return a new model of the same class; torch's generator stays as it is."""
    weight = next(model.parameters())
    kind: Any = type(model)
    try:
        with torch.random.fork_rng(devices=[]):
            made = kind(config)
    except REFUSALS as error:
        raise _refusal(model, max_positions(model), f"{type(error).__name__}: {error}") from error
    for each in made.parameters():  # not the whole model: the frequencies of rotary positions stay in float32
        each.data = each.data.to(weight.dtype)
    return made.to(weight.device).train(model.training)


def _copy_weights(old: PreTrainedModel, new: PreTrainedModel, length: int, frequencies: bool) -> list[str]:
    """Copy all weights, and the learned tables of positions end to end; return the names of these.

    `frequencies` says whether to copy those of rotary positions too, where a model stores them.
    """
    first, more = first_position(old), length - max_positions(old)
    weights, found = dict(old.named_parameters()), []
    if weights.keys() != {name for name, _ in new.named_parameters()}:  # tied in one of them only
        raise _refusal(old, length, "other weights are tied than its config says")
    with torch.no_grad():
        for name, weight in weights.items():
            target = new.get_parameter(name)
            target.requires_grad_(weight.requires_grad)
            if target.shape == weight.shape:
                target.copy_(weight)
                continue
            rows = len(weight)
            if target.shape[1:] != weight.shape[1:] or len(target) - rows != more:
                raise _refusal(old, length, f"the shape of {name} depends on the number of positions otherwise")
            if torch.equal(target[:rows], weight):  # computed, as RoFormer's sines
                continue
            target[:rows] = weight
            for begin in range(rows, len(target), rows - first):
                part = target[begin : begin + rows - first]
                part.copy_(weight[first : first + len(part)])
            found.append(name)
        for name, buffer in _saved_buffers(old):
            made = new.get_buffer(name)
            if made.shape == buffer.shape and (frequencies or not name.endswith("inv_freq")):
                made.copy_(buffer)
    return found


def _saved_buffers(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    stored = model.state_dict()
    return ((name, buffer) for name, buffer in model.named_buffers() if name in stored)


def _same_logits(old: PreTrainedModel, new: PreTrainedModel) -> bool:
    """Tell whether two models give exactly the same logits for a row of the old one's full length."""
    (row,) = sample_rows(old, [min(max_positions(old), _COMPARED)])
    found = []
    for model in (old, new):
        with asked(model):
            found.append(model(input_ids=row.unsqueeze(0)).logits)
    return torch.equal(*found)


def _how_turned(bases: list[Base], config: Any) -> str:
    said = "; ".join(base.said() for base in bases)
    kept = [f"{kind} keeps {values['rope_theta']:,.0f}" for kind, values in _local(config)]
    return "; ".join([f"rotary base {said} (NTK-aware)", *kept])


def _local(config: Any) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    for kind, values in (getattr(config, "rope_parameters", None) or {}).items():
        if isinstance(values, dict) and "sliding" in kind:
            yield kind, values


def _refusal(model: PreTrainedModel, length: int, why: str) -> ValueError:
    return ValueError(
        f"extend_positions: {type(model).__name__} cannot be extended to {length}: {why}. Accepted: models with a "
        "learned table of positions (BERT, RoBERTa), rotary positions (ModernBERT), or relative ones. Leave "
        "--extend_positions out, or choose another model."
    )
