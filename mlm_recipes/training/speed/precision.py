"""Whether this machine is fast at bfloat16, and whether a run's precision can be computed."""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import TrainingArguments

from ...model.half_precision import why_not_half

logger = logging.getLogger(__name__)


def has_fast_bf16(use_cpu: bool) -> bool:
    """Tell whether this machine multiplies bfloat16 matrices in hardware: most GPUs since 2020, many CPUs since 2022.

    >>> has_fast_bf16(use_cpu=True) in (True, False)
    True
    """
    if not use_cpu and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not use_cpu and torch.accelerator.is_available():
        return False
    # Earlier versions of torch cannot tell.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def warn_of_slow_bf16(args: TrainingArguments) -> None:
    """Warn, in the main process, that bf16 was requested but the hardware does not multiply it."""
    if args.bf16 and not has_fast_bf16(args.use_cpu) and args.process_index == 0:
        logger.warning(
            "bf16 is on, but this machine does not multiply bfloat16 in hardware: it is emulated, and a step takes "
            "longer than in float32. Leave it out, or pass --bf16 false."
        )


def refuse_fp16_on_cpu(args: Any) -> None:
    """Raise ValueError for float16 on a CPU, where accelerate would compute in float32 in silence."""
    if args.fp16 and args.device.type == "cpu":
        raise ValueError(
            "fp16: received true on a CPU. Accepted there: bf16 or float32, since float16 is not computed. Pass --bf16 "
            "true, or leave it out, also with `accelerate launch --mixed_precision`."
        )


def refuse_failing_half(model: Any, args: TrainingArguments, tokenizer: Any) -> None:
    """Raise ValueError if a model fails in the half precision of the run, which `bf16` may have by default."""
    name = "bf16" if args.bf16 else "fp16" if args.fp16 else None
    why = name and why_not_half(model, torch.bfloat16 if args.bf16 else torch.float16, tokenizer)
    if why:
        raise ValueError(
            f"{name}: {type(model).__name__} fails in it on this device ({why}). Accepted: float32 for this model. "
            f"Pass --{name} false, or MLMConfig({name}=False)."
        )
