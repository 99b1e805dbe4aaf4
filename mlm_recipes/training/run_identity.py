"""What identifies a run, besides its config's values and its text: how it masks, and the shape of its model.

A resumed run must have the same; `mlm_recipes.checkpoints.resume_contract` compares them.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..masking.collator import DataCollatorForMaskedLM
from ..masking.probability_schedule import ProbabilitySchedule
from ..masking.token_weights import weights_fingerprint

#: Entries of a model's config.json that do not describe its shape.
_NOT_SHAPE = {"architectures", "dtype", "id2label", "label2id", "transformers_version", "use_cache"}

#: Fields of a collator that do not affect its masks.
_NOT_MASKING = {"tokenizer", "padding", "max_length", "pad_to_multiple_of", "padding_free", "position_ids_start"}
_NOT_MASKING |= {"columns", "token_weights"}

#: Fields of a collator that earlier checkpoints lack. They are compared only if they differ from their default.
_LATER = {"masking_policy", "mask_ngram"}


def masking_of(collator: Any, schedule: ProbabilitySchedule | None = None) -> Any:
    """Return what decides a collator's masks: a dictionary, or its class's name if it is not ours.

    `schedule` is that of the share, if it changes.

    >>> from mlm_recipes import load_tokenizer
    >>> found = masking_of(DataCollatorForMaskedLM(load_tokenizer("mini"), mlm_probability=0.3))
    >>> found["mlm_probability"], found["seed"], found["collator"]
    (0.3, 0, 'mlm_recipes.DataCollatorForMaskedLM')
    """
    if not isinstance(collator, DataCollatorForMaskedLM):
        return type(collator).__name__
    rule = {item.name: (getattr(collator, item.name), item.default) for item in fields(collator)}
    masking: dict[str, Any] = {
        name: value
        for name, (value, default) in rule.items()
        if name not in _NOT_MASKING and (name not in _LATER or value != default)
    }
    if collator.token_weights is not None:
        masking["token_weights"] = weights_fingerprint(collator.token_weights)
    masking["seed"] = collator.seed or 0  # what None means for rows that name their epoch
    masking["collator"] = _lasting_name(type(collator))
    if schedule is not None:
        masking["mlm_probability"] = str(schedule)  # so that a constant share is another run
    return masking


def shape_of(model: Any) -> dict[str, Any]:
    """Return what a model's config says of its shape, its class, and how many parameters it has.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> found = shape_of(BertForMaskedLM(BertConfig(vocab_size=50, **size)))
    >>> found["class"], found["hidden_size"], "pad_token_id" in found
    ('BertForMaskedLM', 8, False)
    """
    return _shape(model.config.to_dict()) | {"class": type(model).__name__, "parameters": model.num_parameters()}


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """Return what describes a model's shape in its config, and in the configs within it, such as text_config.

    Trainer replaces ids of special tokens when training begins, in whichever config the text has.
    """
    return {
        name: _shape(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if not name.startswith("_") and not name.endswith("_token_id") and name not in _NOT_SHAPE
    }


def _lasting_name(kind: type) -> str:
    """Return a class's name for the resume contract: ours by its public name, whichever module it is in.

    >>> _lasting_name(DataCollatorForMaskedLM)
    'mlm_recipes.DataCollatorForMaskedLM'
    """
    return f"{'mlm_recipes' if kind is DataCollatorForMaskedLM else kind.__module__}.{kind.__qualname__}"
