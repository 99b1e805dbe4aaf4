"""`MLMConfig`: all values of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from transformers import TrainingArguments

from ..checkpoints.value_kinds import kind
from ..data.word_list import read_words
from ..masking.probability_schedule import ProbabilitySchedule, probability_schedule
from ..sources.credentials import without_credentials
from ..sources.escaping import in_all
from ..sources.names import did_you_mean
from .batches.mix_option import mix_option
from .checks.config_checks import check
from .checks.freezing_checks import as_number, check_checkpointing
from .checks.other_names import hint
from .checks.probe_checks import probe_names
from .checks.refused_values import check_objects, refused
from .distributed.launcher import asked_sharding, take_over
from .distributed.torchrun_restarts import join_process_group
from .optimization.adapters import check_adapter, layer_names
from .options.adapter_options import AdapterOptions
from .options.batch_options import BatchOptions
from .options.changed_defaults import ChangedDefaults
from .options.corpus_options import CorpusOptions
from .options.evaluation_options import EvaluationOptions
from .options.freezing_options import FreezingOptions
from .options.masking_options import MaskingOptions
from .options.model_options import ModelOptions
from .options.optimizer_options import OptimizerOptions
from .options.speed_options import SpeedOptions
from .speed import precision
from .speed.compile_option import CompileOption, compile_option

# Values that describe where and how a run is started, not the run itself. recipe.yaml omits them, so that it can be run
# anywhere.
PLACE = {
    "change_on_resume",
    "dataloader_pin_memory",
    "hub_always_push",
    "hub_model_id",
    "hub_private_repo",
    "hub_revision",
    "hub_strategy",
    "hub_token",
    "local_rank",
    "output_dir",
    "overwrite",
    "push_to_hub",
    "resume_from_checkpoint",
    "trust_remote_code",
    "use_cpu",
}

#: One prepares millions of tokens a second (benchmarks/collator.py), ten times what the fastest GPU trains on; a second
#: one works while the first is held up.
_WORKERS_ON_CUDA = 2


@dataclass
class MLMConfig(  # type: ignore[misc]  # three values accept more than in TrainingArguments
    # A dataclass has the fields of its last base first.
    ChangedDefaults,
    EvaluationOptions,
    FreezingOptions,
    OptimizerOptions,
    AdapterOptions,
    BatchOptions,
    SpeedOptions,
    MaskingOptions,
    ModelOptions,
    CorpusOptions,
    TrainingArguments,
):
    """All of transformers' TrainingArguments, and the values that masked-language modelling needs in addition.

    Raises: ValueError from the constructor, for a value that is out of range; UnknownNameError, a ValueError and a
    TypeError, for a name that no value has.

    >>> config = MLMConfig(mlm_probability=0.2, use_cpu=True)
    >>> config.corpus, config.model, config.mlm_probability
    ('meditations', 'mini', 0.2)
    """

    def __new__(cls, *args: Any, **values: Any) -> MLMConfig:
        """Refuse an unknown name with what to write instead, before Python refuses it without."""
        if cls is MLMConfig:  # a subclass may have more values
            refuse_unknown(values)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self.head_warmup_steps = as_number(self.head_warmup_steps)
        self.mix = mix_option(self.mix)
        if self.add_tokens in ("none", ["none"]):
            self.add_tokens = None
        if self.add_tokens is not None:
            self.add_tokens = read_words(self.add_tokens)  # so recipe.yaml holds the words, whatever becomes of a file
        self.probe = probe_names(self.probe)
        self.probe_pairs, self.probe_search = probe_names(self.probe_pairs), probe_names(self.probe_search)
        self.lora_target_modules = layer_names(self.lora_target_modules)
        check(self)
        check_adapter(self)
        check_objects(self)
        schedule = self._probability_schedule()
        self.mlm_probability_end = [*schedule.shares[1:]] or None  # one number may have been given
        self.mlm_probability_boundaries = [*schedule.boundaries] or None
        if not torch.accelerator.is_available():
            # Explicit, because otherwise each of torchrun's processes would train its own model: transformers looks
            # for a GPU to decide whether there is a process group to join. It also turns off pinned memory.
            self.use_cpu = True
        take_over(self)
        if self.bf16 is None:
            self.bf16 = precision.has_fast_bf16(self.use_cpu) and not self.fp16
        if self.change_on_resume is not None:
            changes: Any = self.change_on_resume
            changes = [changes] if isinstance(changes, str) else changes
            self.change_on_resume = [name for part in changes for name in part.replace(",", " ").split()]
        for name in self.change_on_resume or ():
            refuse_unknown([name], "change_on_resume: ")
            if kind(name) == "fixed":
                raise ValueError(
                    f"change_on_resume: received {name}. Accepted: a value that can change during a run, such as "
                    "learning_rate or max_steps. With a different value here it would be a different run: start one "
                    "from the checkpoint's weights, --model runs/NAME/checkpoint-N."
                )
        on_cuda = not self.use_cpu and torch.cuda.is_available()
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = _WORKERS_ON_CUDA if on_cuda and not self.streaming else 0
            self.dataloader_persistent_workers = self.dataloader_persistent_workers or self.dataloader_num_workers > 0
        given: Any = self.accelerator_config
        # transformers would let accelerate compile the whole model, and switch TF32 on. None of this is its concern.
        compiled = compile_option(self.torch_compile, self.torch_compile_backend, self.torch_compile_mode)
        self._set_compile(CompileOption(False))
        with refused(self):
            super().__post_init__()
        self._set_compile(compiled)
        check_checkpointing(self)
        if given is None and on_cuda and self.dataloader_pin_memory:
            config: Any = self.accelerator_config
            config.non_blocking = True  # batches are copied while the GPU computes
        for name in ("split_batches", "dispatch_batches"):
            if getattr(self.accelerator_config, name):
                raise ValueError(
                    f"accelerator_config: received {name}: true. Accepted: false, or no value, since each process "
                    "reads its own part of every step. Leave it out."
                )

    def _set_compile(self, option: CompileOption) -> None:
        values: Any = option
        self.torch_compile, self.torch_compile_backend, self.torch_compile_mode = values

    @cached_property
    def _setup_devices(self) -> torch.device:  # where TrainingArguments joins the process group
        usual = "gloo" if self.use_cpu else "nccl" if torch.cuda.is_available() else None
        join_process_group(self.ddp_backend or usual, self.ddp_timeout, sharded=asked_sharding(self) is not None)
        device = super()._setup_devices
        # Before 5.18, transformers cannot load an optimizer's state onto "cpu:1", so several processes cannot resume.
        return torch.device("cpu") if device.type == "cpu" else device

    def masking(self) -> dict[str, Any]:
        """Return the keyword arguments of DataCollatorForMaskedLM that this config sets."""
        tokens = ("mlm_probability", "masking_policy", "mask_ngram", "mask_replace_prob", "random_replace_prob")
        batches = ("padding", "pad_to_multiple_of", "loss_on", "static_masks", "seed")
        return {name: getattr(self, name) for name in tokens + batches}

    def evaluation_masking(self) -> dict[str, Any]:
        """Return the same for a collator of evaluations only, which do not mask by the config's policy."""
        return self.masking() | {"masking_policy": "token", "mask_ngram": None}

    def probability_schedule(self) -> ProbabilitySchedule | None:
        """Return the share of the tokens that each step masks, or None if it does not change."""
        return None if self.mlm_probability_schedule == "constant" else self._probability_schedule()

    def _probability_schedule(self) -> ProbabilitySchedule:
        end, boundaries = self.mlm_probability_end, self.mlm_probability_boundaries
        return probability_schedule(self.mlm_probability_schedule, self.mlm_probability, end, boundaries)

    def start(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_model` that describe a run's start."""
        names = ("from_scratch", "trust_remote_code", "extend_positions")
        found = {name: getattr(self, name) for name in names}
        return found | {"revision": self.model_revision, "tokenizer_name": self.tokenizer}

    def default_length(self) -> int:
        """Return the length of rows without a `max_length`, if the model takes them: 512, or what it is extended to."""
        return self.extend_positions or 512

    def vocabulary(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_or_train_tokenizer` that this config sets."""
        names = (
            "from_scratch",
            "trust_remote_code",
            "tokenizer",
            "tokenizer_revision",
            "tokenizer_type",
            "kmer_length",
        )
        return {name: getattr(self, name) for name in (*names, "vocab_size")} | {"revision": self.model_revision}

    def where(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_corpus` that select a part and a version of the corpus."""
        return {name: getattr(self, f"corpus_{name}") for name in ("config", "split", "revision", "sha256")}

    def reading(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_corpus` that describe how any text is read."""
        return {name: getattr(self, name) for name in ("text_column", "sample_by", "encoding", "encoding_errors")}

    def rows(self) -> dict[str, Any]:
        """Return the keyword arguments of `mlm_recipes.data.rows.to_rows` that this config sets."""
        return {name: getattr(self, name) for name in ("packing", "long_text", "stride", "num_proc", "word_segmenter")}

    def to_recipe(self) -> dict[str, Any]:
        """Return all values of the run as plain data for recipe.yaml: this library's own first, then transformers'.

        Credentials are removed from URLs, since recipe.yaml is meant to be shared.
        """
        own = [name for name in own_fields() if name not in PLACE]
        values = {name: value for name, value in self.to_dict().items() if name in field_names() and name not in PLACE}
        return in_all({name: values[name] for name in own} | values, without_credentials)


@cache
def field_names() -> tuple[str, ...]:
    """Return the sorted names of all values that a recipe may set."""
    return tuple(sorted(item.name for item in dataclasses.fields(MLMConfig) if item.init))


def described_fields() -> set[str]:
    """Return the names of the fields that this library describes: its own, and those whose default it changes.

    >>> "corpus" in described_fields(), "logging_steps" in described_fields(), "adam_beta1" in described_fields()
    (True, True, False)
    """
    groups = [base for base in MLMConfig.__bases__ if base is not TrainingArguments]
    return {item.name for group in groups for item in dataclasses.fields(group)}


def own_fields() -> dict[str, dataclasses.Field[Any]]:
    """Return the fields that MLMConfig adds to transformers' TrainingArguments, in the order of their definition."""
    upstream = {item.name for item in dataclasses.fields(TrainingArguments)}
    return {item.name: item for item in dataclasses.fields(MLMConfig) if item.name not in upstream}


class UnknownNameError(ValueError, TypeError):
    """No value of a config has this name. A TypeError too, as for any unknown keyword argument."""


def refuse_unknown(values: Iterable[str], where: str = "", on_command_line: bool = False) -> None:
    """Raise UnknownNameError for an unknown name, with what to write instead; `where` says where it was, as a prefix.

    >>> refuse_unknown(["learning_rate", "lr"], "mine.yaml: ")
    Traceback (most recent call last):
    ...
    mlm_recipes.training.config.UnknownNameError: mine.yaml: lr: no such value. Did you mean 'learning_rate'? \
`mlm-recipes train --help` lists them.
    """
    known = field_names()
    for name in values:
        if name not in known:
            said = hint(str(name), on_command_line)
            near = f" {said}" if said else did_you_mean(str(name), known)
            raise UnknownNameError(f"{where}{name}: no such value.{near} `mlm-recipes train --help` lists them.")
