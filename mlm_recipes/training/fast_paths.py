"""Decides which fast paths a run can use: each is tried on the run's model, and if it fails the reason is logged."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import torch

from ..masking.collator import DataCollatorForMaskedLM
from ..model.bf16_residual import use_bf16_residual, use_float32_residual
from ..model.flash_attention import ASKED
from ..model.padding_free import use_padding_free
from ..model.sparse_prediction import unsupported
from .config import MLMConfig

logger = logging.getLogger(__name__)


def can_be_sparse(model: Any, args: MLMConfig, own_loss: str | None) -> bool:
    """Tell whether the head can be computed on masked positions only; log why not, if it was requested.

    `own_loss`: what computes the caller's own loss, or None.
    """
    if not args.sparse_prediction or args.loss_on == "all":
        return False
    why = f"{own_loss} is your own, and may need every position" if own_loss else unsupported(model)
    if why:
        logger.warning("sparse_prediction is off: %s. The loss is the same, but a step takes longer.", why)
    return why is None


def can_be_padding_free(
    model: Any,
    args: MLMConfig,
    collator: DataCollatorForMaskedLM,
    can_be_parted: bool,
    other_columns: Collection[str] = (),
    own_step: str | None = None,
) -> tuple[bool, bool]:
    """Tell whether batches can be joined in one row, and if not, whether to split them into parts of similar length.

    Logs why not, if it was requested. `can_be_parted`: whether the collator and the loss are this library's, which
    allow parts. `other_columns`: what the model takes of the rows besides tokens. `own_step`: a method of the caller's
    that gets the batches, or None. If the model supports joined batches, its attention accepts them from then on.
    """
    if not args.padding_free or collator.padding != "longest" or collator.pad_to_multiple_of is not None:
        return False, False
    if other_columns:
        logger.warning(
            "padding_free is off: the rows have %s too, whose layout is not known. Batches are padded; the loss is the "
            "same.",
            " and ".join(sorted(other_columns)),
        )
        return False, False
    own = f"{type(collator).__name__} is your own collator"
    half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    why = own if type(collator) is not DataCollatorForMaskedLM else None
    if own_step is not None:
        why = f"{own_step} is your own, and may expect a row for each example, and an attention_mask"
    why = why or use_padding_free(model, half)
    if why is None:
        return True, False
    # FSDP and DeepSpeed gather weights in every pass, in all processes at once, so batches are not split.
    in_parts = can_be_parted and not args.fsdp and not args.deepspeed
    logger.warning(
        "padding_free is off: %s. Batches are padded%s; the loss is the same.",
        why,
        ", in parts of similar length" if in_parts else "",
    )
    return False, in_parts


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
    elif args.deepspeed or args.fsdp or args.fp16:
        why = "DeepSpeed, FSDP and float16 decide in each step what to compute"
    elif args.gradient_checkpointing:
        why = "gradient_checkpointing stores the state of the random numbers in each step"
    elif args.torch_compile and args.torch_compile_mode in ("reduce-overhead", "max-autotune"):
        why = "torch_compile_mode records graphs of its own"
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
