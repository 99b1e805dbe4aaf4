"""Checks the arguments of `DataCollatorForMaskedLM`, also those that it shares with transformers' collator."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from .policy_table import POLICIES
from .random_keys import Floats, Ints
from .vocabulary import number_of_ids, require_mask_token

#: Methods of transformers' collator, which this library's does not have; a subclass's would be passed by.
_UPSTREAMS = (
    *("torch_call", "torch_mask_tokens", "numpy_call", "numpy_mask_tokens", "tf_call", "tf_mask_tokens"),
    *("tf_bernoulli", "get_generator", "create_rng", "_whole_word_mask"),
)


def check_masking(
    mlm_probability: float, mask_replace_prob: float, random_replace_prob: float, padding: str, loss_on: str
) -> None:
    """Raise ValueError for the first value that is out of range.

    >>> check_masking(0.15, 0.8, 0.1, "longest", "masked")
    >>> check_masking(0, 0.8, 0.1, "longest", "masked")
    Traceback (most recent call last):
    ...
    ValueError: mlm_probability: received 0. Accepted: above 0, at most 1. BERT's value is 0.15.
    """
    if isinstance(mlm_probability, bool):
        raise ValueError(
            f"mlm_probability: received {mlm_probability}. Accepted: a number above 0, at most 1. By position, it is "
            "the third argument, as in transformers 4; in transformers 5 that is whole_word_mask. Name the arguments: "
            "DataCollatorForMaskedLM(tokenizer, mlm_probability=0.15)."
        )
    if not _is_number(mlm_probability) or not 0 < mlm_probability <= 1:
        raise ValueError(
            f"mlm_probability: received {mlm_probability!r}. Accepted: above 0, at most 1. BERT's value is 0.15."
        )
    for name, value in (("mask_replace_prob", mask_replace_prob), ("random_replace_prob", random_replace_prob)):
        if not _is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"{name}: received {value!r}. Accepted: 0 to 1. BERT's values are 0.8 and 0.1.")
    if mask_replace_prob + random_replace_prob > 1 + 1e-9:
        raise ValueError(
            f"random_replace_prob: received {random_replace_prob} with mask_replace_prob {mask_replace_prob}. "
            f"Accepted: together at most 1. Lower mask_replace_prob to {1 - random_replace_prob:g} or less."
        )
    if padding not in ("longest", "max_length"):
        raise ValueError(f"padding: received {padding!r}. Accepted: 'longest' or 'max_length'. The first wastes less.")
    if loss_on not in ("masked", "all"):
        raise ValueError(f"loss_on: received {loss_on!r}. Accepted: 'masked' (BERT's) or 'all' (the tutorial's).")


def check_policy(name: Any, mask_ngram: Any = None) -> None:
    """Raise ValueError for a name that no masking policy has, or for a `mask_ngram` that it does not use or is no size.

    >>> check_policy("token")
    >>> check_policy("token", mask_ngram=6)
    Traceback (most recent call last):
    ...
    ValueError: mask_ngram: received 6 with masking_policy 'token'. Accepted: with masking_policy ngram. Leave it out.
    """
    if name not in POLICIES:
        raise ValueError(
            f"masking_policy: received {name!r}. Accepted: {', '.join(POLICIES)}. Leave it out for token, as in BERT."
        )
    if mask_ngram is None:
        return
    users = [each for each, policy in POLICIES.items() if policy.ngram]
    if name not in users:
        raise ValueError(
            f"mask_ngram: received {mask_ngram!r} with masking_policy {name!r}. Accepted: with masking_policy "
            f"{' or '.join(users)}. Leave it out."
        )
    if isinstance(mask_ngram, bool) or not isinstance(mask_ngram, Integral) or mask_ngram < 1:
        raise ValueError(
            f"mask_ngram: received {mask_ngram!r}. Accepted: a number of tokens, 1 or more. Leave it out for the "
            "length of the vocabulary's k-mers."
        )


def policy_of(masking_policy: Any, whole_word_mask: Any) -> Any:
    """Return the name of the masking policy; `whole_word_mask` is transformers' name for one of them.

    Raises: ValueError for a `whole_word_mask` that is no bool, or with another policy.

    >>> policy_of("token", whole_word_mask=True), policy_of("span", whole_word_mask=False)
    ('whole_word', 'span')
    """
    if not isinstance(whole_word_mask, bool | None):
        raise ValueError(
            f"whole_word_mask: received {whole_word_mask!r}. Accepted: True or False. Write "
            'masking_policy="whole_word".'
        )
    if not whole_word_mask:
        return masking_policy
    if masking_policy not in ("token", "whole_word"):  # token is the default
        raise ValueError(
            f"whole_word_mask: received True with masking_policy {masking_policy!r}. Accepted: one of them. Leave out "
            "whole_word_mask."
        )
    return "whole_word"


def check_weights(policy: str, weights: Any, tokenizer: Any) -> Floats | None:
    """Return the weights of a policy that needs them as an array, shape `(ids,)`, or None.

    Raises: ValueError if they are missing, given for a policy that does not need them, or are not one positive number
    for each id of the tokenizer.

    >>> check_weights("token", None, None)
    """
    needed = POLICIES[policy].weights
    count = (
        "token_weights(count_ids(rows, n), count_ids(general_rows, n)), with n = len(tokenizer) "
        "(mlm_recipes.masking.token_weights, mlm_recipes.data.all_ids)"
    )
    if weights is None:
        if needed:
            raise ValueError(
                f"token_weights: received None with masking_policy {policy!r}. Accepted: a number above 0 for each id "
                f"of the vocabulary. Compute them: {count}. MLMTrainer does so itself."
            )
        return None
    if not needed:
        raise ValueError(
            f"token_weights: received weights with masking_policy {policy!r}, which does not use them. Accepted: None, "
            f"or a policy that does: {', '.join(name for name, each in POLICIES.items() if each.weights)}. Leave one "
            "of them out."
        )
    try:
        found = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    ids = number_of_ids(tokenizer)
    if found.ndim != 1 or len(found) < ids or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(
            f"token_weights: received {type(weights).__name__} of shape {found.shape}, with values from "
            f"{found.min(initial=np.inf):g} to {found.max(initial=-np.inf):g}. Accepted: a finite number above 0 for "
            f"each of the tokenizer's {ids} ids. Compute them: {count}."
        )
    return found


def weights_for(flat: Ints, weights: Floats) -> Floats:
    """Return the weights, or raise ValueError for an id of a batch that has none.

    >>> weights_for(np.array([0, 2]), np.array([1.0, 1.0]))
    Traceback (most recent call last):
    ...
    ValueError: token_weights: received 2 weights, and a row has the id 2. Accepted: a weight for each id. Count both \
texts with n = the number of the model's embeddings.
    """
    if len(flat) and int(flat.max()) >= len(weights):
        raise ValueError(
            f"token_weights: received {len(weights)} weights, and a row has the id {int(flat.max())}. Accepted: a "
            "weight for each id. Count both texts with n = the number of the model's embeddings."
        )
    return weights


def refuse_never_called(cls: type) -> None:
    """Raise ValueError for a subclass with a method that only transformers' collator calls.

    >>> refuse_never_called(type("Mine", (), {"torch_mask_tokens": lambda self, inputs: inputs}))
    Traceback (most recent call last):
    ...
    ValueError: torch_mask_tokens: Mine has it, and it would never be called. Accepted: a class without it. Override \
__call__, or make it a subclass of transformers.DataCollatorForLanguageModeling.
    """
    for name in _UPSTREAMS:
        if hasattr(cls, name):
            raise ValueError(
                f"{name}: {cls.__name__} has it, and it would never be called. Accepted: a class without it. Override "
                "__call__, or make it a subclass of transformers.DataCollatorForLanguageModeling."
            )


def check_upstreams(mlm: Any, tf_experimental_compile: Any) -> None:
    """Raise ValueError for an argument of transformers' collator with a value that does not mean what is done here.

    >>> check_upstreams(mlm=True, tf_experimental_compile=False)
    >>> check_upstreams(mlm=0.3, tf_experimental_compile=False)
    Traceback (most recent call last):
    ...
    ValueError: mlm: received 0.3. Accepted: True, as in transformers. Name the share: mlm_probability=0.3.
    """
    if mlm is not True:
        if _is_number(mlm):
            next_step = f"Name the share: mlm_probability={mlm}."
        else:
            next_step = "For causal language modelling use transformers.DataCollatorForLanguageModeling(mlm=False)."
        raise ValueError(f"mlm: received {mlm!r}. Accepted: True, as in transformers. {next_step}")
    if tf_experimental_compile:
        raise ValueError(
            f"tf_experimental_compile: received {tf_experimental_compile!r}. Accepted: False, since batches are "
            "PyTorch's. Leave it out."
        )


def check_return_tensors(return_tensors: Any) -> None:
    """Raise ValueError unless `return_tensors` is "pt", or None, which means the same."""
    if return_tensors not in (None, "pt"):
        raise ValueError(
            f"return_tensors: received {return_tensors!r}. Accepted: 'pt'. Convert the batch: "
            "{name: tensor.numpy() for name, tensor in batch.items()}."
        )


def check_seed(seed: Any) -> None:
    """Raise ValueError unless `seed` is an integer or None."""
    if isinstance(seed, bool) or not isinstance(seed, Integral | None):
        raise ValueError(
            f"seed: received {seed!r}. Accepted: an integer, or None to draw from torch's generator. Pass seed=42."
        )


def check_tokenizer(tokenizer: Any) -> None:
    """Raise ValueError for what is no tokenizer, or one without a mask token or without a padding token."""
    require_mask_token(tokenizer)
    if tokenizer.pad_token_id is None:
        raise ValueError(
            "tokenizer: received one without a padding token. Accepted: a tokenizer with a pad_token. "
            "Set it, for example: tokenizer.pad_token = tokenizer.eos_token."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
