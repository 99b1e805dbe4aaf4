"""Says in one line which weights of a loaded model are new, and which of its folder were left out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import modeling_utils

#: In transformers' own report, a table in red, also where nothing is the matter; and in what it says of a checkpoint
#: without a head, whose bias is tied.
_ALARMS = "LOAD REPORT", "checkpoint seem corrupted"


@contextmanager
def without_load_report() -> Iterator[None]:
    """Hold transformers' load report back within `with`; it is shown after all if the error refers to it."""
    held: list[str] = []
    try:
        with held_back(modeling_utils.logger, *_ALARMS) as held:
            yield
    except RuntimeError as error:
        if "above report" in str(error) and held:
            modeling_utils.logger.error(held[-1])
        raise


@contextmanager
def held_back(logger: Any, *texts: str) -> Iterator[list[str]]:
    """Hold what a logger says with one of `texts` in it back within `with`; yield the list that it is put into.

    >>> with held_back(logging.getLogger("lorem"), "alarm") as held:
    ...     logging.getLogger("lorem").warning("an alarming table")
    >>> held
    ['an alarming table']
    """
    held: list[str] = []

    def passes(record: logging.LogRecord) -> bool:
        said = record.getMessage()
        alarming = any(text in said for text in texts)
        if alarming:
            held.append(said)
        return not alarming

    logger.addFilter(passes)
    try:
        yield held
    finally:
        logger.removeFilter(passes)


def mismatch(name: str, mismatched: Iterable[tuple[str, Any, Any]], vocabulary: int) -> str | None:
    """Return what is wrong if weights have other sizes than the model's config.json says, or None.

    `mismatched` has each weight's name, its size, and the size that the model has room for; `vocabulary` is the number
    of the model's token embeddings.

    >>> print(mismatch("old", [("cls.predictions.bias", (300,), (302,))], vocabulary=302))
    model: 'old' has weights of other sizes than its config.json describes: cls.predictions.bias has 300 instead of \
302. Accepted: weights and a config.json that were saved together. If tokens were added, \
call model.resize_token_embeddings(len(tokenizer)) on the whole model, not on its encoder, and save it again.
    """
    listed = sorted(mismatched)
    if not listed:
        return None
    shown = ", ".join(f"{weight} has {_size(there)} instead of {_size(wanted)}" for weight, there, wanted in listed[:3])
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    advice = "Restore the config.json that they were saved with."
    if any(wanted[0] == vocabulary for _, _, wanted in listed):
        advice = (
            "If tokens were added, call model.resize_token_embeddings(len(tokenizer)) on the whole model, not on its "
            "encoder, and save it again."
        )
    return (
        f"model: {name!r} has weights of other sizes than its config.json describes: {shown}{more}. Accepted: weights "
        f"and a config.json that were saved together. {advice}"
    )


def report(name: str, model: Any, missing: Iterable[str], unexpected: Iterable[str]) -> str | None:
    """Return one line about what is new in a loaded model and what was left out, or None if nothing matters.

    Args:
        missing: the weights that its folder lacks, which start from random values.
        unexpected: the weights of its folder that the model does not have.

    A head for another task and the pooler are not worth a line if nothing else is missing: they are never used.

    Raises: ValueError if most of the model itself, without its head, starts from random values.
    """
    missing = sorted(missing)
    inside = [weight for weight in missing if _in_body(weight, model)]
    lost = [weight for weight in sorted(unexpected) if _in_body(weight, model) and _has_place(weight, model)]
    body = [weight for weight, _ in model.named_parameters() if _in_body(weight, model)]
    total, new = _count(body, model), _count(inside, model)
    if 2 * new > total > 0:
        raise ValueError(
            f"model: {name!r} holds no weights for most of the model that its config.json describes: {new:,} of "
            f"{total:,} parameters ({_few(inside)}). Accepted: the weights of a {type(model).__name__}. Restore the "
            "config.json that they were saved with, or start from random weights: --from_scratch."
        )
    said = []
    if inside:
        said.append(
            f"{new:,} parameters of the model itself are not in its folder and start random ({_few(inside)}); compare "
            "its config.json with the original"
        )
    if lost:
        said.append(
            f"{len(lost)} weights of its folder have no place in the model and are not used ({_few(lost)}); compare "
            "its config.json with the original"
        )
    if head := [weight for weight in missing if weight not in inside]:
        said.append(
            f"the masked-language-modelling head is new: {_count(head, model):,} parameters start random ({_few(head)})"
        )
    other = [weight for weight in sorted(unexpected) if weight not in lost]
    if head and other:
        said.append(f"left out: {', '.join(_parts(other, model))}")
    return f"{name}: {'; '.join(said)}." if said else None


def _in_body(weight: str, model: Any) -> bool:
    """Tell whether a weight belongs to the model without its head."""
    return weight.startswith(f"{model.base_model_prefix}.")


def _has_place(weight: str, model: Any) -> bool:
    """Tell whether the model has the part that a weight belongs to, such as `encoder`; it may have no `pooler`."""
    part = weight.removeprefix(f"{model.base_model_prefix}.").split(".")[0]
    return part in dict(model.base_model.named_children()) and not weight.endswith("position_ids")


def _count(weights: Iterable[str], model: Any) -> int:
    """Return the number of parameters in weights; a tied weight, which has several names, counts once."""
    found = dict(model.named_parameters(remove_duplicate=False))
    return sum({id(found[w]): found[w].numel() for w in weights if w in found}.values())


def _parts(weights: Iterable[str], model: Any) -> list[str]:
    """Return the names of the parts that weights belong to, such as `pooler` and `classifier`."""
    names = [weight.removeprefix(f"{model.base_model_prefix}.").split(".") for weight in weights]
    heads = {".".join(name[:2]) if name[0] == "cls" else name[0] for name in names if name[-1] != "position_ids"}
    return sorted(heads)


def _few(weights: list[str]) -> str:
    return ", ".join(weights[:3]) + (", ..." if len(weights) > 3 else "")


def _size(shape: Iterable[int]) -> str:
    return " x ".join(str(length) for length in shape)
