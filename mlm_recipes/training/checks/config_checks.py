"""Checks the values of a config, separately and in combination."""

from __future__ import annotations

import math
from typing import Any

from ...data.word_segmenter import check_segmenter
from ...masking.collator_checks import check_masking, check_policy
from ...masking.policy_table import POLICIES
from ...masking.probability_schedule import probability_schedule
from ...sources.remote_code import require_name
from ..batches.example_order import STRATEGIES
from ..batches.mix_option import check_mix
from ..callbacks.best_model import check_asked
from .batch_checks import check_batches
from .dropout_checks import check_dropout
from .freezing_checks import check_freezing
from .probe_checks import check_probe
from .sharding_checks import check_sharding
from .vocabulary_checks import check_vocabulary

#: Values of transformers that a run cannot use, and why.
_REFUSED = {
    "auto_find_batch_size": (True, ": a smaller batch in the middle of a run would make it a different run"),
    "average_tokens_across_devices": (False, ", since otherwise a step's loss would depend on the number of processes"),
    "dataloader_in_order": (
        False,
        ", since otherwise the order of the examples would depend on how fast they are read",
    ),
    "bf16_full_eval": (
        True,
        ": the weights would stay rounded after evaluating, and would be trained on and saved so. bf16 computes "
        "evaluations in bfloat16 too",
    ),
    "fp16_full_eval": (
        True,
        ": the weights would stay rounded after evaluating, and would be trained on and saved so. fp16 computes "
        "evaluations in float16 too",
    ),
    "enable_jit_checkpoint": (True, ": the state is saved at SIGTERM in any case"),
    "ignore_data_skip": (True, ": a resumed run continues where it stopped, without reading the rows before"),
    "save_on_each_node": (True, ": output_dir is on a disk that all machines share, and is written once"),
    "do_predict": (True, ", since training reads no test split; `mlm-recipes evaluate` measures a run on any text"),
    "remove_unused_columns": (True, ", since the collator needs example_id, which models do not accept"),
}


def check(config: Any) -> None:
    """Raise ValueError for the first value of an MLMConfig that is out of range or conflicts with another value."""
    check_masking(
        config.mlm_probability,
        config.mask_replace_prob,
        config.random_replace_prob,
        config.padding,
        config.loss_on,
    )
    check_policy(config.masking_policy, config.mask_ngram)
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: received {getattr(config, name)}. Accepted: 1 or more. BERT's tutorial uses 16.")
    if config.gradient_accumulation_steps < 1:
        raise ValueError(
            f"gradient_accumulation_steps: received {config.gradient_accumulation_steps}. Accepted: 1 or more. Leave "
            "it out for 1."
        )
    for name, (refused, why) in _REFUSED.items():
        if getattr(config, name) == refused:
            raise ValueError(f"{name}: received {refused}. Accepted: {not refused}{why}. Leave it out.")
    if config.loss_on == "all" and config.padding != "max_length":
        raise ValueError(
            f"loss_on: received 'all' with padding {config.padding!r}. Accepted: 'all' with padding 'max_length', as "
            "in the tutorial. This loss includes padding, so it would depend on how a batch is split. Pass "
            "--padding max_length, or --loss_on masked."
        )
    if config.on_nonfinite not in ("stop", "skip"):
        raise ValueError(
            f"on_nonfinite: received {config.on_nonfinite!r}. Accepted: stop or skip. Leave it out for the "
            "default, stop, which keeps the last good state."
        )
    if config.train_minutes is not None and not 0 < config.train_minutes < math.inf:
        raise ValueError(
            f"train_minutes: received {config.train_minutes}. Accepted: a number above 0, or no value, with "
            "max_steps or num_train_epochs instead. Try --train_minutes 1."
        )
    for name in ("eval_draws", "pseudo_perplexity_tokens", "prompts_compared"):
        if getattr(config, name) < 1:
            default = type(config).__dataclass_fields__[name].default
            raise ValueError(
                f"{name}: received {getattr(config, name)}. Accepted: 1 or more; {default} by default. Leave it out."
            )
    if config.max_skipped_steps < 0:
        raise ValueError(f"max_skipped_steps: received {config.max_skipped_steps}. Accepted: 0 or more. Try 10.")
    if not 0 <= config.evaluation_seed < 2**63:
        raise ValueError(f"evaluation_seed: received {config.evaluation_seed}. Accepted: 0 to 2**63 - 1. Try 0.")
    if config.train_sampling_strategy not in STRATEGIES:
        raise ValueError(
            f"train_sampling_strategy: received {config.train_sampling_strategy!r}. Accepted: "
            f"{', '.join(STRATEGIES)}. With these, a step has the same examples on any number of processes. Choose one "
            "of them."
        )
    if config.muon and config.optim not in ("adamw_torch", "adamw_torch_fused"):
        raise ValueError(
            f"muon: received True with optim {str(config.optim)!r}. Accepted: adamw_torch or adamw_torch_fused, since "
            "AdamW trains the rest of the model. Leave one of them out."
        )
    if config.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor: received {config.label_smoothing_factor}. Accepted: 0, since the loss is the "
            "plain cross-entropy of masked tokens. Leave it out."
        )

    check_asked(config)
    require_name(config.trust_remote_code)
    _check_words(config)
    _check_stream(config)
    _check_schedule(config)
    check_freezing(config)
    check_sharding(config)
    check_mix(config)
    _check_positions(config)
    check_vocabulary(config)
    check_batches(config)
    check_dropout(config)
    check_probe(config)


def _check_stream(config: Any) -> None:
    if config.stream_buffer < 1:
        raise ValueError(
            f"stream_buffer: received {config.stream_buffer}. Accepted: 1 or more paragraphs. Leave it out for the "
            "default, 10000."
        )
    if config.streaming and config.train_sampling_strategy == "group_by_length":
        raise ValueError(
            "train_sampling_strategy: received 'group_by_length' with streaming. Accepted: random or sequential, "
            "since the lengths of a stream are not known beforehand. Leave one of them out."
        )
    if config.streaming and config.deduplicate != "none":
        raise ValueError(
            f"deduplicate: received {config.deduplicate!r} with streaming. Accepted: none, since a stream does not "
            "remember earlier paragraphs. Leave one of them out; a duplicate of held-out text is still not trained on."
        )
    if config.streaming and config.dataloader_num_workers:
        raise ValueError(
            f"dataloader_num_workers: received {config.dataloader_num_workers} with streaming. Accepted: 0, since the "
            "main process reads the text once for all processes, and each worker would read it again. Leave it out."
        )


def _check_words(config: Any) -> None:
    check_segmenter(config.word_segmenter)
    if config.word_segmenter != "none" and not POLICIES[config.masking_policy].words:
        using = ", ".join(name for name, policy in POLICIES.items() if policy.words)
        raise ValueError(
            f"word_segmenter: received {config.word_segmenter!r} with masking_policy {config.masking_policy!r}, which "
            f"does not use words. Accepted: none, or a policy that masks words: {using}. Leave one of them out."
        )


def _check_schedule(config: Any) -> None:
    kind = config.mlm_probability_schedule
    probability_schedule(kind, config.mlm_probability, config.mlm_probability_end, config.mlm_probability_boundaries)
    if config.static_masks and kind != "constant":
        raise ValueError(
            f"mlm_probability_schedule: received {kind!r} with static_masks. Accepted: constant, since static masks "
            "are drawn once for the whole run. Leave static_masks out, or pass --mlm_probability_schedule constant."
        )


def _check_positions(config: Any) -> None:
    longer, length = config.extend_positions, config.max_length
    if longer is not None and longer < 3:
        raise ValueError(
            f"extend_positions: received {longer}. Accepted: a number of tokens above the model's positions, such as "
            "4096. Leave it out for the model's own."
        )
    if longer is not None and length is not None and length > longer:
        raise ValueError(
            f"max_length: received {length} with extend_positions {longer}. Accepted: at most {longer}. Raise "
            "extend_positions, or leave max_length out for rows of that length."
        )
