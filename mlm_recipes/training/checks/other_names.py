"""What other programs call a value, and what to write here: run_mlm.py, its relatives, and older transformers.

Only names that no value of ours has. Everything after `--` in a hint is one of our values.
"""

from __future__ import annotations

import re

#: Common names for a value, and transformers' name for it.
COMMON = {
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "lora_rank": "lora_r",
    "lr": "learning_rate",
    "mask_prob": "mlm_probability",
    "output": "output_dir",
    "steps": "max_steps",
}

_NOT_NEEDED = "There is nothing to set; leave it out."
_WORDS = "Write --masking_policy whole_word; rows that bring a column word_ids name their words themselves."

#: The arguments of transformers' examples: run_mlm.py, run_mlm_no_trainer.py, run_mlm_wwm.py and
#: run_language_modeling.py.
RUN_MLM = {
    # the model
    "model_name_or_path": "Write --model.",
    "model_name": "Write --model.",
    "model_type": "Name a model of that type with --model, and --from_scratch for random weights in its shape.",
    "config_overrides": "Change config.json in a copy of a model's folder; name that with --model, and --from_scratch.",
    "config_name": "Name the folder with that config.json with --model, and --from_scratch for random weights.",
    "tokenizer_name": "Write --tokenizer.",
    "use_fast_tokenizer": f"transformers 5 chooses it. {_NOT_NEEDED}",
    "use_slow_tokenizer": f"transformers 5 chooses it. {_NOT_NEEDED}",
    "low_cpu_mem_usage": f"transformers 5 always does it. {_NOT_NEEDED}",
    "dtype": "Weights are float32 while training; --bf16 sets the precision of the computation.",
    "torch_dtype": "Weights are float32 while training; --bf16 sets the precision of the computation.",
    "cache_dir": "Set the folder in the environment: HF_HOME.",
    "token": "Log in with `hf auth login`, or set HF_TOKEN in the environment.",
    "use_auth_token": "Log in with `hf auth login`, or set HF_TOKEN in the environment.",
    # the text
    "dataset_name": "Write --corpus, which takes a hub id as well as a file or a folder.",
    "dataset_config_name": "Write --corpus_config.",
    "dataset_config": "Write --corpus_config.",
    "train_file": "Write --corpus.",
    "train_data_file": "Write --corpus.",
    "train_data_files": "Write --corpus, with a quoted pattern.",
    "validation_file": "Write --validation_corpus.",
    "eval_data_file": "Write --validation_corpus.",
    "validation_split_percentage": "Write --validation_fraction, which is a share: 0.05 for 5 percent.",
    "overwrite_cache": f"A text that changed is read again. {_NOT_NEEDED}",
    "preprocessing_num_workers": "Write --num_proc.",
    "max_train_samples": "Write --max_steps to train less, or name a smaller text with --corpus.",
    "text_column_name": "Write --text_column.",
    "keep_linebreaks": "Write --sample_by, which says how a text file is divided into paragraphs.",
    # rows
    "max_seq_length": "Write --max_length.",
    "block_size": "Write --max_length, with --packing to join paragraphs into rows of that length.",
    "line_by_line": "Write --sample_by line; each paragraph is a row of its own unless --packing is given.",
    "pad_to_max_length": "Write --padding max_length.",
    # masks
    "mlm": "It is always masked-language modelling. Leave it out.",
    "whole_word_mask": "Write --masking_policy whole_word.",
    "train_ref_file": _WORDS,
    "validation_ref_file": _WORDS,
    "eval_ref_file": _WORDS,
    "chinese_ref_file": _WORDS,
    "plm_probability": "It is for XLNet, which is no masked-language model. Leave it out.",
    "max_span_length": "It is for XLNet, which is no masked-language model. Leave it out.",
    # run_mlm_no_trainer.py
    "max_train_steps": "Write --max_steps.",
    "num_warmup_steps": "Write --warmup_steps.",
    "checkpointing_steps": "Write --save_strategy, and --save_steps if it is steps.",
    "with_tracking": "Write --report_to with the tracker's name.",
    # of Trainer's own arguments
    "callbacks": "They are objects: pass them in Python, mlm_recipes.train(recipe, callbacks=[...]). Leave it out.",
}

#: Arguments that TrainingArguments had in transformers 2 to 4.
TRANSFORMERS_4 = {
    "adafactor": "Write --optim adafactor.",
    "dispatch_batches": f"Each process reads its own part of a step. {_NOT_NEEDED}",
    "evaluate_during_training": "Write --eval_strategy, and --eval_steps if it is steps.",
    "evaluation_strategy": "Write --eval_strategy.",
    "fp16_backend": "Write --fp16 alone; torch is the only backend.",
    "fp16_opt_level": "Write --fp16 alone; apex is not used.",
    "fsdp_min_num_params": "Write it into --fsdp_config, as min_num_params.",
    "fsdp_transformer_layer_cls_to_wrap": "Write it into --fsdp_config, as transformer_layer_cls_to_wrap.",
    "group_by_length": "Write --train_sampling_strategy group_by_length.",
    "half_precision_backend": "Write --bf16 or --fp16 alone; torch is the only backend.",
    "include_inputs_for_metrics": f"Evaluation keeps a loss and a rank for each masked token. {_NOT_NEEDED}",
    "include_tokens_per_second": f"The tokens per second of a run are in its metrics.json. {_NOT_NEEDED}",
    "jit_mode_eval": f"It is gone from transformers. {_NOT_NEEDED}",
    "logging_dir": "Set TENSORBOARD_LOGGING_DIR in the environment; --report_to names the tracker.",
    "model_parallel": "Write --fsdp for a model that does not fit into one GPU.",
    "mp_parameters": f"It is for SageMaker, and gone from transformers. {_NOT_NEEDED}",
    "no_cuda": "Write --use_cpu.",
    "overwrite_output_dir": "Write --overwrite.",
    "past_index": f"It is for decoders. {_NOT_NEEDED}",
    "per_gpu_eval_batch_size": "Write --per_device_eval_batch_size.",
    "per_gpu_train_batch_size": "Write --per_device_train_batch_size.",
    "push_to_hub_model_id": "Write --hub_model_id.",
    "push_to_hub_organization": "Write --hub_model_id owner/name.",
    "push_to_hub_token": "Write --hub_token.",
    "ray_scope": f"It is gone from transformers. {_NOT_NEEDED}",
    "save_safetensors": f"Weights are always saved as safetensors. {_NOT_NEEDED}",
    "sharded_ddp": "Write --fsdp.",
    "should_continue": "Write --resume_from_checkpoint true.",
    "split_batches": f"--per_device_train_batch_size is the batch of one process. {_NOT_NEEDED}",
    "torchdynamo": "Write --torch_compile, and --torch_compile_backend.",
    "tpu_metrics_debug": "Write --debug tpu_metrics_debug.",
    "tpu_num_cores": f"The launcher starts the processes. {_NOT_NEEDED}",
    "use_ipex": f"It is gone from transformers. {_NOT_NEEDED}",
    "use_legacy_prediction_loop": f"It is gone from transformers. {_NOT_NEEDED}",
    "use_mps_device": f"Apple's GPU is used if there is one. {_NOT_NEEDED}",
    "warmup_ratio": "Write --warmup_steps, which takes a share below 1 as well: 0.06 for 6 percent of the steps.",
    "xpu_backend": "Write --ddp_backend.",
}

#: Of TRL, and of programs that merge adapters.
ADAPTERS = {"use_peft": "Write --peft lora.", "merge": "Write --lora_merge."}

_HINTS = TRANSFORMERS_4 | RUN_MLM | ADAPTERS


def hint(name: str, on_command_line: bool = False) -> str:
    """Return what to write instead of another program's name for a value; empty if the name is not known.

    The dashes of a flag are left out except `on_command_line`, since a recipe and Python have none.

    >>> hint("block_size", on_command_line=True)
    'Write --max_length, with --packing to join paragraphs into rows of that length.'
    >>> hint("no_cuda"), hint("lr"), hint("learning_rat")
    ('Write use_cpu.', "Did you mean 'learning_rate'?", '')
    """
    if name in COMMON:
        return f"Did you mean {COMMON[name]!r}?"
    said = _HINTS.get(name) or _HINTS.get(name.removeprefix("no_"), "")
    return said if on_command_line else re.sub(r"--(?=\w)", "", said)
