"""Hints for the argument names of other programs, held to lists of those names."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from transformers import TrainingArguments

from mlm_recipes import MLMConfig, MLMTrainer, cli
from mlm_recipes.recipes.arguments import parse_arguments, read_config
from mlm_recipes.training.checks.other_names import ADAPTERS, COMMON, RUN_MLM, TRANSFORMERS_4, hint
from mlm_recipes.training.config import field_names


def words(text):
    return text.split()


# The fields of ModelArguments and DataTrainingArguments in examples/pytorch/language-modeling/run_mlm.py, of all
# versions from transformers 4.0 to 5 (https://github.com/huggingface/transformers).
OF_RUN_MLM = words("""
    model_name_or_path model_type config_overrides config_name tokenizer_name cache_dir use_fast_tokenizer
    model_revision token use_auth_token trust_remote_code dtype torch_dtype low_cpu_mem_usage
    dataset_name dataset_config_name train_file validation_file overwrite_cache validation_split_percentage
    max_seq_length preprocessing_num_workers mlm_probability line_by_line pad_to_max_length max_train_samples
    max_eval_samples streaming
""")

# Of its relatives: run_clm.py, run_mlm_wwm.py, run_mlm_no_trainer.py, and run_language_modeling.py of version 3.
OF_ITS_RELATIVES = words("""
    block_size keep_linebreaks train_ref_file validation_ref_file max_train_steps num_warmup_steps use_slow_tokenizer
    checkpointing_steps with_tracking train_data_file train_data_files eval_data_file mlm whole_word_mask
    plm_probability max_span_length eval_ref_file should_continue text_column_name
""")

# The fields of TrainingArguments (src/transformers/training_args.py) in transformers 3 and 4 that version 5 dropped.
DROPPED = words("""
    overwrite_output_dir evaluate_during_training evaluation_strategy per_gpu_train_batch_size per_gpu_eval_batch_size
    warmup_ratio logging_dir save_safetensors no_cuda use_mps_device jit_mode_eval use_ipex fp16_opt_level fp16_backend
    half_precision_backend tpu_num_cores tpu_metrics_debug past_index group_by_length adafactor sharded_ddp xpu_backend
    fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap use_legacy_prediction_loop include_inputs_for_metrics
    push_to_hub_model_id push_to_hub_organization push_to_hub_token mp_parameters torchdynamo ray_scope dispatch_batches
    split_batches include_tokens_per_second model_parallel
""")


@pytest.mark.parametrize("name", OF_RUN_MLM + OF_ITS_RELATIVES + DROPPED)
def test_an_argument_of_others_is_a_value_of_ours_or_has_a_hint(name):
    assert name in field_names() or hint(name), name


def test_the_lists_have_the_names_that_this_transformers_no_longer_has():
    assert set(DROPPED).isdisjoint(field.name for field in TrainingArguments.__dataclass_fields__.values())


def test_the_table_holds_only_names_that_are_listed_and_that_no_value_has():
    assert set(RUN_MLM) | set(TRANSFORMERS_4) <= {*OF_RUN_MLM, *OF_ITS_RELATIVES, *DROPPED} | {
        # of forks and notebooks, and of Trainer itself
        *("model_name", "dataset_config", "chinese_ref_file", "callbacks")
    }
    assert not (set(RUN_MLM) | set(TRANSFORMERS_4) | set(COMMON)) & set(field_names())


@pytest.mark.parametrize(("name", "said"), sorted((RUN_MLM | TRANSFORMERS_4 | ADAPTERS).items()))
def test_a_hint_names_values_that_exist(name, said):
    named = re.findall(r"--(\w+)", said)
    assert set(named) <= set(field_names()), name
    assert named or "eave it out" in said or "environment" in said, name
    assert said.endswith("."), name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *[("block_size", "max_length"), ("validation_file", "validation_corpus"), ("dataset_name", "corpus")],
        *[("train_file", "corpus"), ("model_name_or_path", "model"), ("no_cuda", "use_cpu")],
        *[("group_by_length", "train_sampling_strategy"), ("warmup_ratio", "warmup_steps")],
        *[("overwrite_output_dir", "overwrite"), ("line_by_line", "sample_by"), ("config_name", "from_scratch")],
        *[("evaluation_strategy", "eval_strategy"), ("per_gpu_train_batch_size", "per_device_train_batch_size")],
    ],
)
def test_the_same_hint_on_the_command_line_in_a_recipe_and_in_python(name, meant, tmp_path):
    for flag in (name, name.replace("_", "-")):
        with pytest.raises(ValueError, match=rf"^{name}: no such value\..*--{meant}\b"):
            parse_arguments([f"--{flag}", "1"])
    (tmp_path / "mine.yaml").write_text(f"{name}: 1\n")
    with pytest.raises(ValueError, match=rf"mine.yaml: {name}: no such value\.(?!.*--{meant}).*\b{meant}\b"):
        read_config("mine.yaml")
    with pytest.raises(TypeError, match=rf"^{name}: no such value\.(?!.*--{meant}).*\b{meant}\b"):
        MLMConfig(**{name: 1})
    with pytest.raises(ValueError, match=meant):
        read_config("quickstart", {name: 1})


def test_a_flag_of_run_mlm_ends_the_command_with_one_line(capsys):
    assert cli.main(["train", "--model_name_or_path", "roberta-base", "--train_file", "notes.txt"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mlm-recipes: error: model_name_or_path: no such value. Write --model.")
    assert len(said.splitlines()) == 1


def test_a_name_that_nobody_has_stays_a_type_error_in_python():
    with pytest.raises(TypeError, match=r"learning_rat: no such value. Did you mean 'learning_rate'"):
        MLMConfig(learning_rat=1)
    with pytest.raises(TypeError, match=r"lorem: no such value. `mlm-recipes train --help`"):
        MLMConfig(lorem=1)


def test_a_subclass_may_have_more_values():
    @dataclass
    class Mine(MLMConfig):
        lorem: int = 0

    assert Mine(lorem=3, use_cpu=True).lorem == 3


def test_the_trainers_former_argument_has_a_hint(tiny_bert, tokenizer):
    with pytest.raises(TypeError, match=r"tokenizer: no such argument. Write processing_class"):
        MLMTrainer(tiny_bert, tokenizer=tokenizer)
