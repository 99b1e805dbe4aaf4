"""Finds the parameters that masked-language modelling does not use, which DDP must not wait for."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...model.loss import masked_lm_loss
from ...model.sample_rows import REFUSALS, asked, pad_id, padded, sample_rows

#: A config's shares of layers that are skipped at random. Such a model uses different parameters in each step.
_SKIPPING = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")


def unused_parameters(model: Any, tokenizer: Any = None) -> list[str] | None:
    """Return the names of the parameters that get no gradient from a batch, or None if that differs between batches.

    The model is tried on two short rows, and is as before afterwards, with its gradients.

    >>> from transformers import EsmConfig, EsmForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> esm = EsmForMaskedLM(EsmConfig(vocab_size=33, mask_token_id=32, pad_token_id=1, **size))
    >>> unused_parameters(esm)
    ['esm.contact_head.regression.weight', 'esm.contact_head.regression.bias']
    """
    if any(getattr(model.config, name, 0) for name in _SKIPPING):
        return None
    learning = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    before = {name: weight.grad for name, weight in learning.items()}
    batch = padded(sample_rows(model, [8, 8], tokenizer), pad_id(model, tokenizer))
    try:
        on_gpu = [device] if (device := batch["input_ids"].device).type == "cuda" else []
        with asked(model), torch.enable_grad(), torch.random.fork_rng(devices=on_gpu):
            model.zero_grad(set_to_none=True)
            model.train()
            masked_lm_loss(model(**batch), batch["input_ids"]).backward()
            return [name for name, weight in learning.items() if weight.grad is None]
    except REFUSALS:
        return None  # the first step will say what is wrong
    finally:
        for name, weight in learning.items():
            weight.grad = before[name]


class UnusedParameters(TrainerCallback):
    """Keep DDP from waiting for parameters that get no gradient, and from searching for them in each step.

    DDP ignores them: they are neither sent nor changed, but saved as they are. The optimizer has them as before.

    Args:
        model: before DDP wraps it.
        tokenizer: the model's.
        asked: the config's `ddp_find_unused_parameters`. With True they are searched for in each step.
    """

    def __init__(self, model: Any, tokenizer: Any, asked: bool | None) -> None:
        found = [] if asked else unused_parameters(model, tokenizer)
        #: Whether DDP must search for unused parameters in each step.
        self.search = bool(asked) or (asked is None and found is None)
        weights = dict(model.named_parameters())
        self._ignored = {name: weights[name] for name in found or []}
        unused = {id(weight) for weight in self._ignored.values()}
        # A tied weight has a name in each of its modules, and DDP goes by each of them: LUKE's entity embeddings.
        names = [name for name, weight in model.named_parameters(remove_duplicate=False) if id(weight) in unused]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Raise RuntimeError if an ignored parameter has a gradient, which no process has sent to the others."""
        used = [name for name, weight in self._ignored.items() if weight.grad is not None]
        if used:
            raise RuntimeError(
                f"ddp_find_unused_parameters: received {args.ddp_find_unused_parameters}, but {used[0]} got a gradient "
                f"in step {state.global_step + 1} and none when it was tried. Accepted for such a model: true. Pass "
                "--ddp_find_unused_parameters true."
            )
