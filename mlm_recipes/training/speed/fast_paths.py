"""Decides which fast paths a run can use: each is tried on the run's model, and if it fails the reason is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch

from ...masking.collator import DataCollatorForMaskedLM
from ...model.bf16_residual import use_bf16_residual, use_float32_residual
from ...model.flash_attention import ASKED
from ...model.padding import dependence, shown_lengths
from ...model.padding_free import use_padding_free
from ...model.rows_of_one_length import use_rows_of_one_length, use_whole_batches
from ...model.sparse_prediction import unsupported
from ..config import MLMConfig
from ..distributed.launcher import asked_sharding

logger = logging.getLogger(__name__)


def can_be_sparse(model: Any, args: MLMConfig, tokenizer: Any, own_loss: str | None) -> bool:
    """Tell whether the head can be computed on masked positions only; log why not, if it was requested.

    `own_loss`: what computes the caller's own loss, or None.
    """
    if not args.sparse_prediction or args.loss_on == "all":
        return False
    use_whole_batches(model)  # another trainer may have divided them
    why = f"{own_loss} is your own, and may need every position" if own_loss else None
    why = why or unsupported(model, tokenizer=tokenizer)
    if why:
        logger.warning("sparse_prediction is off: %s. The loss is the same, but a step takes longer.", why)
    return why is None


@dataclass(frozen=True)
class Layout:
    """How the batches of a run reach the model.

    Attributes:
        joined: in one row (`mlm_recipes.model.padding_free`).
        in_parts: padded, divided into parts of similar length.
    """

    joined: bool = False
    in_parts: bool = False


def choose_layout(
    model: Any,
    args: MLMConfig,
    collator: DataCollatorForMaskedLM,
    longest: Callable[[], int],
    can_be_parted: bool,
    sharded: str | None,
    other_columns: Collection[str] = (),
    own_step: str | None = None,
) -> Layout:
    """Choose the layout of the batches, after asking the model; log what was found, if that is not what was requested.

    If the model supports joined batches, its attention accepts them from then on. If padding changes its results, rows
    of one length pass through it together from then on (`mlm_recipes.model.rows_of_one_length`).

    Args:
        model: on its device.
        args: the run's values.
        collator: the run's, or the one that evaluates if the run has its own.
        longest: returns the most tokens that a row has.
        can_be_parted: whether the collator and the loss of training are this library's, which allow parts.
        sharded: what splits the model over the processes, FSDP or None. All processes then pass through it together, so
            that none may divide its batches.
        other_columns: what the model takes of the rows besides tokens.
        own_step: a method of the caller's that gets the batches, or None.

    Raises: ValueError if a row's result would depend on the other rows of its batch.
    """
    use_whole_batches(model)
    whole = collator.padding == "longest" and collator.pad_to_multiple_of is None
    why = None
    if args.padding_free and whole:
        half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        if type(collator) is not DataCollatorForMaskedLM:
            why = f"{type(collator).__name__} is your own collator"
        elif other_columns:
            why = f"the rows have {' and '.join(sorted(other_columns))} too, whose layout is not known"
        elif own_step is not None:
            why = f"{own_step} is your own, and may expect a row for each example, and an attention_mask"
        else:
            why = use_padding_free(model, half, collator.tokenizer)
        if why is None:
            return Layout(joined=True)
    found = _divided(model, collator, longest, sharded)
    can_be_parted = can_be_parted and sharded is None and not other_columns
    in_parts = why is not None and found is None and can_be_parted
    if found is not None:
        logger.warning("%s%s", "" if why is None else f"padding_free is off: {why}. ", found)
    elif why is not None:
        logger.warning(
            "padding_free is off: %s. Batches are padded%s; the loss is the same.",
            why,
            ", in parts of similar length" if in_parts else "",
        )
    return Layout(in_parts=in_parts)


def _divided(
    model: Any, collator: DataCollatorForMaskedLM, longest: Callable[[], int], sharded: str | None
) -> str | None:
    """Let rows of one length pass through the model together, if padding changes its results; then return what to say.

    Raises: ValueError if that does not help, or cannot be done.
    """
    name, tokenizer = type(model).__name__, collator.tokenizer
    lengths = shown_lengths(model, longest)
    found = dependence(model, lengths, tokenizer)
    if found is None:
        return None
    fixed = collator.max_length if collator.padding == "max_length" else None
    multiple = fixed or collator.pad_to_multiple_of or 1
    if not found.on_padding and multiple == 1:
        remedy = (
            "Pass --padding max_length, if this model takes only rows of one length; or set an attention in its "
            "config.json whose results repeat, such as BigBird's attention_type: original_full"
        )
        raise ValueError(_refused(name, found.why, remedy))
    if sharded and fixed is None:
        why = f"{found.why}, and with {sharded} all processes pass through the model together, so no batch is divided"
        raise ValueError(_refused(name, why, f"Pass --padding max_length, or train it without {sharded}"))

    def width(length: int) -> int:
        rounded = -(-length // multiple) * multiple
        return rounded if collator.max_length is None else max(length, min(rounded, collator.max_length))

    use_rows_of_one_length(model, multiple, with_head=unsupported(model, tokenizer=tokenizer) is not None)
    left = dependence(model, lengths, tokenizer, width)
    if left is not None:
        raise ValueError(_refused(name, left.why, "Choose another model"))
    unit = "" if multiple == 1 else f", in multiples of {multiple},"
    how = f"rows of one length{unit} pass through it together, in training and evaluation, which takes longer"
    if fixed is not None:
        how = f"every row is padded to {fixed} tokens, in training and evaluation"
    return f"{name}: {found.why}, so {how}. A row's loss then does not depend on its batch."


def _refused(name: str, why: str, remedy: str) -> str:
    return (
        f"model: received {name}, but {why}. Accepted: a model whose result for a row depends on nothing else, since "
        f"otherwise no loss could be compared with another. {remedy}."
    )


def can_record(args: MLMConfig, device: torch.device) -> bool:
    """Tell whether small steps can be recorded as CUDA graphs; log why not, if it was requested.

    The batches are joined and the head is sparse; otherwise the shapes of a step are not known beforehand.
    """
    if not args.cuda_graphs or device.type != "cuda":
        return False
    why = None
    dtype = torch.bfloat16 if args.bf16 else torch.float32  # another run in this process may have asked for the other
    if args.world_size > 1:
        why = "several processes exchange their gradients during the backward pass"
    elif asked_sharding(args) or args.fp16:
        why = "FSDP and float16 decide in each step what to compute"
    elif args.full_determinism:
        why = "full_determinism asks for the same bits, and a replay may add up in another order than the pass itself"
    elif args.gradient_checkpointing:
        why = "gradient_checkpointing stores the state of the random numbers in each step"
    elif args.torch_compile and args.torch_compile_mode in ("reduce-overhead", "max-autotune"):
        why = "torch_compile_mode records graphs of its own"
    elif args.train_new_tokens_first:
        why = "train_new_tokens_first removes gradients, which the graphs keep"
    elif args.dropout_by_example:
        why = "dropout_by_example counts the calls of each step"
    elif not any(reason is None for (*where, _), reason in ASKED.items() if where == [device, dtype]):
        why = "attention pads its sequences"
    if why:
        logger.warning("cuda_graphs is off: %s. The result is the same, but a small step takes longer.", why)
    return why is None


def choose_residual(model: Any, args: MLMConfig) -> None:
    """Keep the residual stream in bfloat16 if that was requested, otherwise in float32; log why it cannot be.

    A model that another trainer kept in bfloat16 returns to float32.
    """
    use_float32_residual(model)
    if not args.bf16_residual:
        return
    why = use_bf16_residual(model) if args.bf16 else "it needs bf16, which is off"
    if why:
        logger.warning("bf16_residual is off: %s. LayerNorm and the residual stream stay in float32.", why)
