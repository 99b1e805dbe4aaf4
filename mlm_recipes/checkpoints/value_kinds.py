"""What a changed value of the config means for a run that is resumed."""

from __future__ import annotations

#: Values that define a run. What several of them determine together (the text, the global batch, the model's shape,
#: the masks) is compared separately, as a fact.
FIXED = frozenset(
    {
        "data_seed",
        "dataloader_drop_last",
        "decay_bias_and_norm",
        "dropout_by_example",
        "evaluation_seed",
        "freeze",
        "head_warmup_steps",
        "layerwise_lr_decay",
        "lora_alpha",
        "lora_dropout",
        "lora_r",
        "lora_target_modules",
        "lora_train_head",
        "loss_on",
        "masking_policy",
        "mask_ngram",
        "mask_replace_prob",
        # A schedule's own values are fixed; its total number of steps is not: it follows max_steps, as REMADE does.
        "mlm_probability",
        "mlm_probability_boundaries",
        "mlm_probability_end",
        "mlm_probability_schedule",
        "muon",
        "optim",
        "optim_args",
        "optim_target_modules",
        "peft",
        "random_replace_prob",
        "seed",
        "static_masks",
        "stream_buffer",
        "streaming",
        "tokens_per_batch",
        "train_new_tokens_first",
        "train_sampling_strategy",
        "word_segmenter",
    }
)


#: Values that determine how a corpus becomes rows.
READING = (
    *("corpus_config", "corpus_revision", "corpus_sha256", "corpus_split", "deduplicate", "encoding"),
    *("encoding_errors", "long_text", "max_eval_samples", "packing", "sample_by", "stride", "text_column"),
)


#: Values that do not affect what is learned: file locations, what is printed or saved, how the work is distributed.
ALLOWED = frozenset(
    {
        *("accelerator_config", "activation_checkpointing", "activation_checkpointing_kwargs", "debug", "deepspeed"),
        *("gradient_checkpointing", "gradient_checkpointing_kwargs", "parallelism_config", "torch_empty_cache_steps"),
        *("ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters"),
        *("ddp_static_graph", "ddp_timeout", "fsdp", "fsdp_config", "full_determinism"),
        *("dataloader_multiprocessing_context", "dataloader_num_workers"),
        *("dataloader_persistent_workers", "dataloader_prefetch_factor", "length_column_name", "use_cache"),
        *("disable_tqdm", "do_eval", "do_predict", "do_train", "enable_jit_checkpoint", "prediction_loss_only"),
        *("eval_draws", "probe_pairs", "probe_search", "prompts_compared", "pseudo_perplexity_tokens"),
        *("eval_accumulation_steps", "eval_delay", "eval_do_concat_batches", "eval_on_start", "eval_steps"),
        *("eval_strategy", "eval_use_gather_object", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval"),
        *("include_for_metrics", "include_num_input_tokens_seen", "per_device_eval_batch_size"),
        *("lora_merge", "max_skipped_steps", "on_nonfinite"),
        *("hub_always_push", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "push_to_hub"),
        *("log_level", "log_level_replica", "log_on_each_node", "logging_first_step", "logging_nan_inf_filter"),
        *("logging_steps", "logging_strategy", "project", "prompts", "report_to", "run_name", "skip_memory_metrics"),
        *("trackio_bucket_id", "trackio_space_id", "trackio_static_space_id"),
        *("save_on_each_node", "save_only_model", "save_steps", "save_strategy", "save_total_limit"),
        "restore_callback_states_from_checkpoint",
        # Compared through the facts that they determine: the text, the tokenizer, the global batch.
        *("corpus", "extend_positions", "general_corpus", "max_length", "mix", "num_proc", "train_minutes", *READING),
        *("tokenizer", "tokenizer_revision", "tokenizer_type", "kmer_length", "add_tokens"),
        *("validation_corpus", "validation_fraction", "vocab_size"),
        *("global_batch_size", "gradient_accumulation_steps", "per_device_train_batch_size"),
        "balance_lengths",  # who computes a row, as the number of processes
    }
)


#: Values that can explain a difference between facts.
CAUSES = {
    *("corpus", "extend_positions", "from_scratch", "general_corpus", "max_length", "mix", "model", "model_revision"),
    *("tokenizer_type", "kmer_length", *READING),
    *("tokenizer", "tokenizer_revision", "validation_corpus", "validation_fraction", "vocab_size"),
}


#: Schedules that follow a measured loss. They keep their own step count, which cannot be adapted to new values.
METRIC_DRIVEN = {"greedy", "reduce_lr_on_plateau"}


#: Values that say which model of a run is the best.
MEASURE = {"metric_for_best_model", "greater_is_better"}


#: Values that a schedule or an optimizer is built from. A checkpoint restores the old ones, which must not win.
REMADE = frozenset(
    {
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "learning_rate",
        "lr_scheduler_kwargs",
        "lr_scheduler_type",
        "max_steps",
        "num_train_epochs",
        "warmup_steps",
        "weight_decay",
    }
)


def kind(name: str) -> str:
    """Return how a resume treats a changed value: `fixed` (refused), `allowed`, or `named` (refused unless named).

    A value in neither list is `named`.

    >>> kind("seed"), kind("logging_steps"), kind("learning_rate")
    ('fixed', 'allowed', 'named')
    """
    return "fixed" if name in FIXED else "allowed" if name in ALLOWED else "named"
