"""Every value of a run: `MLMConfig`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from transformers import TrainingArguments

from ..checkpoints.value_kinds import kind
from ..sources.credentials import without_credentials
from ..sources.escaping import in_all
from ..sources.names import did_you_mean
from . import precision
from .config_checks import check
from .torchrun_restarts import rejoin_process_group

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
    eval_draws: int = field(
        default=5,
        metadata={
            "help": "How often the held-out tokens are masked anew, at most; a large text is masked fewer times."
        },
    )
    pseudo_perplexity_tokens: int = field(
        default=65_536,
        metadata={
            "help": "Positions that pseudo-perplexity may compute: a sample of the tokens is masked one by one. Half "
            "as many on ordinary language."
        },
    )
    prompts_compared: int = field(
        default=100, metadata={"help": "Words of the held-out text among which the prompts that are shown are chosen."}
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
        check(self)
        if not torch.accelerator.is_available():
            # Said aloud, or torchrun's processes would each train a model of their own: without it transformers
            # looks for a GPU to decide whether there is a process group to join. It also turns off pinned memory.
            self.use_cpu = True
        launcher = os.environ.get("ACCELERATE_MIXED_PRECISION")
        if launcher in ("bf16", "fp16") and not (self.bf16 or self.fp16):
            setattr(self, launcher, True)  # accelerate would use it anyway; so recipe.yaml says it too
        if self.bf16 is None:
            elsewhere = self.fp16 or self.deepspeed  # a file of DeepSpeed's decides for itself
            self.bf16 = precision.has_fast_bf16(self.use_cpu) and not elsewhere
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
        super().__post_init__()
        for name in ("split_batches", "dispatch_batches"):
            if getattr(self.accelerator_config, name):
                raise ValueError(
                    f"accelerator_config: received {name}: true. Accepted: false, or nothing: each process reads its "
                    "own part of every step. Leave it out."
                )

    @cached_property
    def _setup_devices(self) -> torch.device:  # where TrainingArguments joins the process group
        rejoin_process_group(self.ddp_backend or ("gloo" if self.use_cpu else "nccl"), self.ddp_timeout)
        return super()._setup_devices

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
