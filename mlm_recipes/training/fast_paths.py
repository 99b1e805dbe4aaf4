"""Which of the ways to compute less a run can go; each is tried on the run's own model, and why not is said."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..masking.collator import DataCollatorForMaskedLM
from ..model.padding_free import use_padding_free
from ..model.sparse_prediction import unsupported
from .config import MLMConfig

logger = logging.getLogger(__name__)


def can_be_sparse(model: Any, args: MLMConfig, own_loss: bool) -> bool:
    """Tell whether the head is computed on masked positions only; say why not where it was asked for.

    `own_loss`: whether the loss is one of the caller's.
    """
    if not args.sparse_prediction or args.loss_on == "all":
        return False
    own = "compute_loss_func is one of your own, which may want every position"
    why = own if own_loss else unsupported(model)
    if why:
        logger.warning("sparse_prediction is off: %s. The loss is the same, a step takes longer.", why)
    return why is None


def can_be_padding_free(
    model: Any, args: MLMConfig, collator: DataCollatorForMaskedLM, can_be_parted: bool
) -> tuple[bool, bool]:
    """Tell whether batches are joined in one row, and if not, whether they come in parts of like length instead.

    Says why not, where it was asked for. `can_be_parted`: whether collator and loss are ours, which do not mind. The
    model's attention takes joined batches from then on, if it can.
    """
    if not args.padding_free or collator.padding != "longest" or collator.pad_to_multiple_of is not None:
        return False, False
    own = f"{type(collator).__name__} is a collator of your own"
    why = own if type(collator) is not DataCollatorForMaskedLM else use_padding_free(model)
    if why is None:
        return True, False
    # FSDP and DeepSpeed gather weights in every pass, in all processes at once: there a batch stays whole.
    in_parts = can_be_parted and not args.fsdp and not args.deepspeed
    logger.warning(
        "padding_free is off: %s. Batches are padded%s; the loss is the same.",
        why,
        ", in parts of like length" if in_parts else "",
    )
    return False, in_parts


@contextmanager
def compiled_for_any_shape(args: MLMConfig) -> Iterator[None]:
    """Let accelerate, which is set up inside `with`, have the model compiled once for batches of any shape.

    Nearly every batch has a shape of its own, unless rows are packed. accelerate takes this from the environment alone.
    """
    name = "ACCELERATE_DYNAMO_USE_DYNAMIC"
    compiled = args.torch_compile or args.torch_compile_backend or args.torch_compile_mode
    if args.packing or not compiled or name in os.environ:
        yield
        return
    os.environ[name] = "true"
    try:
        yield
    finally:
        del os.environ[name]
