"""Every value of a run: `MLMConfig`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from transformers import TrainingArguments

from ..checkpoints.contract import METRIC_DRIVEN, kind
from ..masking.collator import check_masking
from ..sources.credentials import without_credentials
from ..sources.escaping import in_all
from ..sources.names import did_you_mean
from ..sources.remote_code import require_name
from .order import STRATEGIES
from .restarts import meet_again

# What a run says about the place it ran at, not about itself; recipe.yaml leaves it out, so that it can run anywhere.
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

# What people type, and what transformers calls it.
COMMON = {
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "mask_prob": "mlm_probability",
    "output": "output_dir",
    "steps": "max_steps",
}


# The value of transformers that a run cannot have, and why the other.
_REFUSED = {
    "auto_find_batch_size": (True, ": a smaller batch in the middle of a run would make it another run"),
    "average_tokens_across_devices": (False, ", or the loss of a step would depend on the number of processes"),
    "dataloader_in_order": (False, ", or the order of the examples would depend on how fast they are read"),
    "enable_jit_checkpoint": (True, ": SIGTERM has the state saved in any case"),
    "ignore_data_skip": (True, ": a resumed run goes on where it stopped, and no row is read to get there"),
    "save_on_each_node": (True, ": output_dir is on a disk that all machines share, and is written once"),
    "remove_unused_columns": (True, ", since the collator needs example_id, which no model takes"),
    "restore_callback_states_from_checkpoint": (True, ": it would put the checkpoint's contract in this run's place"),
}


#: The values of a run that leaves nothing behind: none saved, sent, shown or taken up again.
_WITHOUT_TRACE: dict[str, Any] = {
    "eval_on_start": False,
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "report_to": "none",
    "resume_from_checkpoint": None,
    "change_on_resume": None,
    "disable_tqdm": True,
}


@dataclass
class MLMConfig(TrainingArguments):
    """All of transformers' TrainingArguments, and what masked-language modelling needs besides.

    Raises: ValueError for a value that is out of range, when it is made.

    >>> config = MLMConfig(mlm_probability=0.2, use_cpu=True)
    >>> config.corpus, config.model, config.mlm_probability
    ('meditations', 'mini', 0.2)
    """

    # Corpus
    corpus: str = field(
        default="meditations",
        metadata={
            "help": "A known corpus, a file (text, JSON lines, CSV, Parquet ...), a folder, a pattern in quotes, an "
            "http(s) address, - for standard input, or a hub id owner/name."
        },
    )
    text_column: str | None = field(
        default=None,
        metadata={"help": "The column that holds the text; by default `text`, or that with the longest strings."},
    )
    sample_by: str = field(
        default="auto",
        metadata={
            "help": "What a paragraph of a text file is: line, paragraph (blank lines between), document, or auto: "
            "paragraph where the lines are wrapped."
        },
    )
    encoding: str = field(default="utf-8", metadata={"help": "Of text files, such as cp1252 or utf-16."})
    encoding_errors: str = field(
        default="strict", metadata={"help": "strict, or replace, which counts the bytes that were wrong."}
    )
    corpus_config: str | None = field(default=None, metadata={"help": "The configuration of a hub data set."})
    corpus_split: str | None = field(default=None, metadata={"help": "The split of a hub data set to train on."})
    corpus_revision: str | None = field(
        default=None, metadata={"help": "A branch, tag or commit of a hub data set, so that it stays what it is."}
    )
    corpus_sha256: str | None = field(
        default=None, metadata={"help": "What the file at an http(s) address must have; else it is refused."}
    )
    deduplicate: str = field(
        default="none", metadata={"help": "none, exact or near: keep the first of equal or nearly equal paragraphs."}
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "Share of the paragraphs that is held out and never trained on."}
    )
    max_eval_samples: int = field(
        default=2_000, metadata={"help": "How many paragraphs that share is at most; more are measured no better."}
    )
    validation_corpus: str | None = field(
        default=None,
        metadata={"help": "Text to hold out whole, named as the corpus is; by default a share of the corpus."},
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read the text as it is needed, block by block: for one too large to be tokenized whole."},
    )
    stream_buffer: int = field(
        default=10_000, metadata={"help": "Paragraphs of a block of a stream: as many are in memory, and shuffled."}
    )
    # Model
    model: str = field(
        default="mini", metadata={"help": "A built-in model, a local folder, or a hub id of a masked-language model."}
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "A branch, tag or commit of a hub model, so that it stays what it is."}
    )
    trust_remote_code: str | None = field(
        default=None,
        metadata={"help": "The name of the one model whose own code may be run here; never set by a recipe."},
    )
    from_scratch: bool = field(
        default=False,
        metadata={"help": "Random weights in the model's shape, and a tokenizer learned from the corpus."},
    )
    vocab_size: int = field(
        default=8192, metadata={"help": "Upper bound for a tokenizer that is learned from the corpus."}
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "Tokens of a row; by default 512, or the model's positions if fewer."},
    )
    long_text: str = field(
        default="split",
        metadata={"help": "Longer paragraphs: split into rows at the ends of sentences, or truncate (the tutorial)."},
    )
    stride: int = field(
        default=0, metadata={"help": "Tokens that a row of a split paragraph repeats of the one before, for context."}
    )
    num_proc: int | None = field(default=None, metadata={"help": "Processes that tokenize; by default one."})
    packing: bool = field(
        default=False,
        metadata={
            "help": "Join paragraphs end to end and cut them into rows of max_length tokens; nothing is cut off."
        },
    )
    # Masking
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of the tokens that is masked, in (0, 1]."})
    mask_replace_prob: float = field(default=1.0, metadata={"help": "How often a masked token becomes [MASK]."})
    random_replace_prob: float = field(default=0.0, metadata={"help": "How often it becomes a random token."})
    loss_on: str = field(default="masked", metadata={"help": "masked (BERT) or all (the tutorial)."})
    static_masks: bool = field(
        default=False, metadata={"help": "Draw each paragraph's masks once, not anew in every epoch."}
    )
    padding: str = field(default="longest", metadata={"help": "longest (of the batch) or max_length."})
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"help": "Round the padded length up to a multiple of this."}
    )
    # Time
    train_minutes: float | None = field(
        default=None,
        metadata={
            "help": "Minutes that training may take: a few steps are timed, and max_steps becomes what fits, at most "
            "the max_steps that is given. num_train_epochs does not count then. For `train` alone."
        },
    )
    # Speed
    padding_free: bool = field(
        default=True,
        metadata={"help": "Join a batch's paragraphs in one row instead of padding them; the loss is the same."},
    )
    sparse_prediction: bool = field(
        default=True, metadata={"help": "Compute the vocabulary head on masked positions only; the loss is the same."}
    )
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "bfloat16 autocast; by default where the hardware is fast at it. false: float32 throughout.",
            **{"nargs": "?", "const": True},  # so that the flag alone means true, as it does upstream
        },
    )
    # Optimizer
    decay_bias_and_norm: bool = field(
        default=False,
        metadata={"help": "Weight decay on biases and normalisation too, as AdamW(model.parameters()) does."},
    )
    muon: bool = field(
        default=False,
        metadata={"help": "Muon for the matrices inside the model, AdamW for the rest; pays from random weights on."},
    )
    # Safety
    on_nonfinite: str = field(
        default="stop",
        metadata={"help": "At a loss or gradient that is NaN or infinite: stop before the update, or skip the step."},
    )
    max_skipped_steps: int = field(
        default=10, metadata={"help": "How many steps a run may leave out with on_nonfinite skip before it stops."}
    )
    # Evaluation and run
    evaluation_seed: int = field(
        default=0,
        metadata={"help": "Which paragraphs are held out, and which of their tokens masked; keep it to compare runs."},
    )
    general_corpus: str = field(
        default="general-english",
        metadata={"help": "Ordinary language, measured before and after, so that forgetting shows; `none` for none."},
    )
    prompts: str | None = field(
        default=None,
        metadata={
            "help": "A text file with a sentence a line, one [MASK] in each: filled before and after. By default the "
            "held-out text's, where the change is largest either way."
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Allow --output_dir to hold a finished run."})
    change_on_resume: list[str] | None = field(
        default=None,
        metadata={"help": "With resume_from_checkpoint: values that may change now, such as learning_rate max_steps."},
    )

    # Values of transformers that suit this library less.
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Paragraphs a step and device."})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "Paragraphs an evaluation step and device."})
    logging_steps: float = field(default=1, metadata={"help": "Steps between two values of the loss."})
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Go on with a run: true for its newest checkpoint, a run folder, or a checkpoint's folder; auto: "
            "go on if it was begun, else start."
        },
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator needs example_id: leave it."})

    def __post_init__(self) -> None:
        check_masking(
            self.mlm_probability, self.mask_replace_prob, self.random_replace_prob, self.padding, self.loss_on
        )
        if not torch.accelerator.is_available():
            # Said aloud, or torchrun's processes would each train a model of their own: without it transformers
            # looks for a GPU to decide whether there is a process group to join. It also turns off pinned memory.
            self.use_cpu = True
        launcher = os.environ.get("ACCELERATE_MIXED_PRECISION")
        if launcher in ("bf16", "fp16") and not (self.bf16 or self.fp16):
            setattr(self, launcher, True)  # accelerate would use it anyway; so recipe.yaml says it too
        if self.bf16 is None:
            elsewhere = self.fp16 or self.deepspeed  # a file of DeepSpeed's decides for itself
            self.bf16 = has_fast_bf16(self.use_cpu) and not elsewhere
        self._check()
        compiled = self.torch_compile or self.torch_compile_backend or self.torch_compile_mode
        if compiled and not self.packing:
            # Nearly every batch has a shape of its own: compile once for all. This is how accelerate is told.
            os.environ.setdefault("ACCELERATE_DYNAMO_USE_DYNAMIC", "true")
        meet_again(self.ddp_backend or ("gloo" if self.use_cpu else "nccl"), self.ddp_timeout)
        super().__post_init__()
        for name in ("split_batches", "dispatch_batches"):
            if getattr(self.accelerator_config, name):
                raise ValueError(
                    f"accelerator_config: received {name}: true. Accepted: false, or nothing: each process reads its "
                    "own part of every step. Leave it out."
                )

    def _check(self) -> None:
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: received {getattr(self, name)}. Accepted: 1 or more. BERT's tutorial has 16."
                )
        for name, (refused, why) in _REFUSED.items():
            if getattr(self, name) == refused:
                raise ValueError(f"{name}: received {refused}. Accepted: {not refused}{why}. Leave it out.")
        if self.loss_on == "all" and self.padding != "max_length":
            raise ValueError(
                f"loss_on: received 'all' with padding {self.padding!r}. Accepted: with padding 'max_length', as in "
                "the tutorial: the loss counts padding too, and would depend on how a batch is split. Pass --padding "
                "max_length, or --loss_on masked."
            )
        if self.change_on_resume is not None:
            given: Any = self.change_on_resume
            given = [given] if isinstance(given, str) else given
            self.change_on_resume = [name for part in given for name in part.replace(",", " ").split()]
        for name in self.change_on_resume or ():
            refuse_unknown([name], "change_on_resume: ")
            if kind(name) == "fixed":
                raise ValueError(
                    f"change_on_resume: received {name}. Accepted: a value that a run can change on its way, such as "
                    "learning_rate or max_steps. With another value here it is another run: start one from the "
                    "checkpoint's weights, --model runs/NAME/checkpoint-N."
                )
        if self.on_nonfinite not in ("stop", "skip"):
            raise ValueError(
                f"on_nonfinite: received {self.on_nonfinite!r}. Accepted: stop or skip. The default, stop, keeps the "
                "last good state."
            )
        if self.train_minutes is not None and not 0 < self.train_minutes < math.inf:
            raise ValueError(
                f"train_minutes: received {self.train_minutes}. Accepted: a number above 0, or none at all with "
                "max_steps or num_train_epochs. Try --train_minutes 1."
            )
        if self.max_skipped_steps < 0:
            raise ValueError(f"max_skipped_steps: received {self.max_skipped_steps}. Accepted: 0 or more. Try 10.")
        if not 0 <= self.evaluation_seed < 2**63:
            raise ValueError(f"evaluation_seed: received {self.evaluation_seed}. Accepted: 0 to 2**63 - 1. Try 0.")
        if self.train_sampling_strategy not in STRATEGIES:
            raise ValueError(
                f"train_sampling_strategy: received {self.train_sampling_strategy!r}. Accepted: "
                f"{', '.join(STRATEGIES)}: with these a step sees the same examples on any number of processes."
            )
        if self.muon and (self.deepspeed or self.fsdp):
            raise ValueError(
                "muon: received True with deepspeed or fsdp. Accepted: without, since Muon takes a weight matrix whole "
                "and these cut it up. Leave one of them out."
            )
        if self.muon and self.optim not in ("adamw_torch", "adamw_torch_fused"):
            raise ValueError(
                f"muon: received True with optim {str(self.optim)!r}. Accepted: adamw_torch or adamw_torch_fused: "
                "AdamW has the rest of the model. Leave one of them out."
            )
        if self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor: received {self.label_smoothing_factor}. Accepted: 0, since the loss is the "
                "plain cross-entropy of masked tokens. Leave it out."
            )

        require_name(self.trust_remote_code)
        self._check_stream()

    def _check_stream(self) -> None:
        if self.stream_buffer < 1:
            raise ValueError(
                f"stream_buffer: received {self.stream_buffer}. Accepted: 1 or more paragraphs; the default is 10000."
            )
        if self.streaming and self.train_sampling_strategy == "group_by_length":
            raise ValueError(
                "train_sampling_strategy: received 'group_by_length' with streaming. Accepted: random or sequential: "
                "the lengths of a stream are not known beforehand. Leave one of them out."
            )
        if self.streaming and self.deduplicate != "none":
            raise ValueError(
                f"deduplicate: received {self.deduplicate!r} with streaming. Accepted: none: what a stream has had is "
                "not remembered. Leave one of them out; a duplicate of what is held out is not trained on."
            )
        if self.streaming and self.dataloader_num_workers:
            raise ValueError(
                f"dataloader_num_workers: received {self.dataloader_num_workers} with streaming. Accepted: 0: the main "
                "process reads, once for all, and each worker would read the whole text again. Leave it out."
            )

    def masking(self) -> dict[str, Any]:
        """Return the keyword arguments of DataCollatorForMaskedLM that this config decides."""
        names = ("mlm_probability", "mask_replace_prob", "random_replace_prob", "padding", "pad_to_multiple_of")
        return {name: getattr(self, name) for name in (*names, "loss_on", "static_masks", "seed")}

    def start(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_model` and `load_or_train_tokenizer` that say what a run starts "
        "from."""
        names = ("from_scratch", "trust_remote_code")
        return {name: getattr(self, name) for name in names} | {"revision": self.model_revision}

    def where(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_corpus` that say which state of its corpus is meant."""
        return {name: getattr(self, f"corpus_{name}") for name in ("config", "split", "revision", "sha256")}

    def reading(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_corpus` that say how any text is read."""
        return {name: getattr(self, name) for name in ("text_column", "sample_by", "encoding", "encoding_errors")}

    def rows(self) -> dict[str, Any]:
        """Return the keyword arguments of `mlm_recipes.data.rows.to_rows` that this config decides."""
        return {name: getattr(self, name) for name in ("packing", "long_text", "stride", "num_proc")}

    def to_recipe(self) -> dict[str, Any]:
        """Return every value of the run as plain data for recipe.yaml: this library's own first, then transformers'.

        Of an address the credentials are left out: recipe.yaml is passed on.
        """
        own = [name for name in own_fields() if name not in PLACE]
        values = {name: value for name, value in self.to_dict().items() if name in field_names() and name not in PLACE}
        return in_all({name: values[name] for name in own} | values, without_credentials)


def cut_short(config: MLMConfig, steps: int, **changes: Any) -> MLMConfig:
    """Return the config of a run of so few steps that leaves nothing behind; what it cannot have is put aside.

    >>> short = cut_short(MLMConfig(use_cpu=True, train_minutes=1), steps=3, logging_strategy="no")
    >>> short.max_steps, short.train_minutes, str(short.save_strategy.value)
    (3, None, 'no')
    """
    follows_metric = config.lr_scheduler_type in METRIC_DRIVEN  # which is not measured
    return dataclasses.replace(
        config,
        max_steps=steps,
        train_minutes=None,
        dataloader_drop_last=False,
        lr_scheduler_type="constant" if follows_metric else config.lr_scheduler_type,
        lr_scheduler_kwargs=None if follows_metric else config.lr_scheduler_kwargs,
        eval_strategy="no",
        **_WITHOUT_TRACE,
        **changes,
    )


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


@cache
def field_names() -> tuple[str, ...]:
    """Return the names of all values that a recipe may set, sorted."""
    return tuple(sorted(item.name for item in dataclasses.fields(MLMConfig) if item.init))


def own_fields() -> dict[str, dataclasses.Field[Any]]:
    """Return the fields that MLMConfig adds to transformers' TrainingArguments, in their order."""
    upstream = {item.name for item in dataclasses.fields(TrainingArguments)}
    return {item.name: item for item in dataclasses.fields(MLMConfig) if item.name not in upstream}


def refuse_unknown(values: Iterable[str], where: str = "") -> None:
    """Raise ValueError for a name that is no value of a run, with the nearest that is; `where` says where it stood.

    >>> refuse_unknown(["learning_rate", "lr"], "mine.yaml: ")
    Traceback (most recent call last):
    ...
    ValueError: mine.yaml: lr: no such value. Did you mean 'learning_rate'? `mlm-recipes train --help` lists them.
    """
    known = field_names()
    for name in values:
        if name not in known:
            near = f" Did you mean {COMMON[name]!r}?" if name in COMMON else did_you_mean(str(name), known)
            raise ValueError(f"{where}{name}: no such value.{near} `mlm-recipes train --help` lists them.")
