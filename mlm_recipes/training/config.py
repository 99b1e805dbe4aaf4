"""`MLMConfig`: all values of a run."""

from __future__ import annotations

import dataclasses
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
from .compile_option import CompileOption, compile_option
from .config_checks import check
from .launcher import asked_sharding, take_over
from .other_names import hint
from .refused_values import check_objects, refused
from .torchrun_restarts import rejoin_process_group

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
class MLMConfig(TrainingArguments):
    """All of transformers' TrainingArguments, and the values that masked-language modelling needs in addition.

    Raises: ValueError from the constructor, for a value that is out of range; UnknownNameError, a ValueError and a
    TypeError, for a name that no value has.

    >>> config = MLMConfig(mlm_probability=0.2, use_cpu=True)
    >>> config.corpus, config.model, config.mlm_probability
    ('meditations', 'mini', 0.2)
    """

    # Corpus
    corpus: str = field(
        default="meditations",
        metadata={
            "help": "The text to train on: a known corpus, a file (text, JSON lines, CSV, Parquet ...), "
            "a folder, a quoted pattern, an http(s) URL, - for standard input, or a hub id owner/name."
        },
    )
    text_column: str | None = field(
        default=None,
        metadata={
            "help": "The column of a table that contains the text, or a path such as data.paragraphs.context; by "
            "default it is chosen if that is clear, and the run says which."
        },
    )
    sample_by: str = field(
        default="auto",
        metadata={
            "help": "How a text file is divided into paragraphs: line (each line is one), paragraph (separated by "
            "blank lines), document (the whole file is one), or auto (paragraph if lines are wrapped, otherwise line)."
        },
    )
    encoding: str = field(default="utf-8", metadata={"help": "The encoding of text files, such as cp1252 or utf-16."})
    encoding_errors: str = field(
        default="strict",
        metadata={"help": "What to do with invalid bytes: strict (stop), or replace (replace and count them)."},
    )
    corpus_config: str | None = field(default=None, metadata={"help": "The configuration of a hub data set."})
    corpus_split: str | None = field(
        default=None, metadata={"help": "The split to train on, of a hub data set or a folder."}
    )
    corpus_revision: str | None = field(
        default=None,
        metadata={"help": "A branch, tag or commit of a hub data set, so that it cannot change between runs."},
    )
    corpus_sha256: str | None = field(
        default=None,
        metadata={
            "help": "The expected SHA-256 of a corpus at an http(s) URL; a file with a different one is refused."
        },
    )
    deduplicate: str = field(
        default="none",
        metadata={
            "help": "Remove duplicate paragraphs, keeping the first: none, exact, or near (near duplicates too)."
        },
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "The share of the paragraphs that is held out and never trained on."}
    )
    max_eval_samples: int = field(
        default=2_000,
        metadata={
            "help": "The most distinct paragraphs of a text that are measured; more would hardly improve the result."
        },
    )
    validation_corpus: str | None = field(
        default=None,
        metadata={
            "help": "A text to hold out completely, named in the same ways as corpus; by default a share of the corpus."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read the text block by block while training, for a text too large to tokenize beforehand."},
    )
    stream_buffer: int = field(
        default=10_000,
        metadata={"help": "With streaming: the number of paragraphs that are held in memory and shuffled together."},
    )
    # Model
    model: str = field(
        default="mini", metadata={"help": "A built-in model, a local folder, or a hub id of a masked-language model."}
    )
    model_revision: str | None = field(
        default=None,
        metadata={"help": "A branch, tag or commit of a hub model, so that it cannot change between runs."},
    )
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "A tokenizer from elsewhere: a folder, or a hub id. By default the model's own; for random "
            "weights, one that is trained on the corpus."
        },
    )
    tokenizer_revision: str | None = field(
        default=None,
        metadata={"help": "A branch, tag or commit of the tokenizer's hub id, so that it cannot change between runs."},
    )
    trust_remote_code: str | None = field(
        default=None,
        metadata={
            "help": "The name of the only model (or tokenizer) whose own code may be run; a recipe cannot set it."
        },
    )
    from_scratch: bool = field(
        default=False,
        metadata={
            "help": "Start from random weights in the model's shape, and train a tokenizer on the corpus unless one is "
            "given."
        },
    )
    vocab_size: int = field(
        default=8192, metadata={"help": "The largest vocabulary of a tokenizer that is trained on the corpus."}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "The most tokens in a row; by default 512, or the number of the model's positions if that is lower."
        },
    )
    long_text: str = field(
        default="split",
        metadata={
            "help": "What to do with a paragraph longer than max_length: split it into rows at the ends of sentences, "
            "or truncate it (as in the tutorial)."
        },
    )
    stride: int = field(
        default=0,
        metadata={"help": "The number of tokens that a row of a split paragraph repeats from the row before it."},
    )
    num_proc: int | None = field(
        default=None, metadata={"help": "The number of processes that tokenize; by default one."}
    )
    packing: bool = field(
        default=False,
        metadata={
            "help": "Join paragraphs end to end and split them into rows of max_length tokens; no text is discarded."
        },
    )
    # Masking
    mlm_probability: float = field(
        default=0.15, metadata={"help": "The share of the tokens that is masked, above 0 and at most 1."}
    )
    mask_replace_prob: float = field(
        default=1.0, metadata={"help": "The share of the masked tokens that [MASK] replaces."}
    )
    random_replace_prob: float = field(
        default=0.0, metadata={"help": "The share of the masked tokens that a random token replaces."}
    )
    loss_on: str = field(
        default="masked",
        metadata={"help": "The tokens that the loss is computed on: masked (as in BERT) or all (as in the tutorial)."},
    )
    static_masks: bool = field(
        default=False, metadata={"help": "Draw each paragraph's masks once, instead of again in every epoch."}
    )
    padding: str = field(
        default="longest",
        metadata={"help": "The length that rows are padded to: longest (the batch's longest row) or max_length."},
    )
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"help": "Round the padded length up to a multiple of this."}
    )
    # Time
    train_minutes: float | None = field(
        default=None,
        metadata={
            "help": "The minutes that training may take: a few steps are timed, and max_steps is set to the number "
            "that fits, at most the max_steps given. num_train_epochs is then ignored. Only for `train`."
        },
    )
    # Speed
    padding_free: bool = field(
        default=True,
        metadata={"help": "Join a batch's rows into one instead of padding them; the loss is the same."},
    )
    sparse_prediction: bool = field(
        default=True, metadata={"help": "Compute the vocabulary head at masked positions only; the loss is the same."}
    )
    cuda_graphs: bool = field(
        default=True,
        metadata={
            "help": "On a CUDA GPU, replay the kernels of small steps, since starting them takes longer than computing "
            "them; batches are filled up to one of few shapes. The result is the same, without dropout."
        },
    )
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Use bfloat16 autocast; by default only if the hardware is fast at it. With false, everything is "
            "computed in float32.",
            **{"nargs": "?", "const": True},  # so that the flag without a value means true, as it does upstream
        },
    )
    bf16_residual: bool = field(
        default=False,
        metadata={
            "help": "With bf16: LayerNorm and the sums of the residual connections are computed in bfloat16 too; a "
            "step is faster on a GPU, the loss differs by rounding."
        },
    )
    torch_compile: str = field(  # type: ignore[assignment]  # argparse takes no bool | str; __post_init__ makes it one
        default="auto",
        metadata={
            "help": "Compile the model's layers and its head while training: true, false, or auto (on CUDA, if the run "
            "is long enough to earn the time it takes).",
            **{"nargs": "?", "const": "true"},
        },
    )
    # Optimizer
    decay_bias_and_norm: bool = field(
        default=False,
        metadata={
            "help": "Apply weight decay to biases and normalisation weights too, as AdamW(model.parameters()) does."
        },
    )
    muon: bool = field(
        default=False,
        metadata={
            "help": "Use Muon for the matrices inside the model and AdamW for the rest; it helps a model that starts "
            "from random weights."
        },
    )
    # Safety
    on_nonfinite: str = field(
        default="stop",
        metadata={
            "help": "What to do if a loss or gradient is NaN or infinite: stop the run before the update, or skip the "
            "step."
        },
    )
    max_skipped_steps: int = field(
        default=10, metadata={"help": "With on_nonfinite skip: the most steps that a run skips before it stops."}
    )
    # Early stopping
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop training after this many evaluations without an improvement of metric_for_best_model (by "
            "default the loss); needs eval_strategy. load_best_model_at_end then loads the best model."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0,
        metadata={"help": "By how much the measure must improve on its best value for an evaluation to count as one."},
    )
    # Evaluation and run
    evaluation_seed: int = field(
        default=0,
        metadata={
            "help": "The seed that decides which paragraphs are held out and which of their tokens are masked; use the "
            "same one to compare runs."
        },
    )
    general_corpus: str = field(
        default="general-english",
        metadata={
            "help": "A text in ordinary language that is measured before and after training, to show what the model "
            "has forgotten; `none` turns this off."
        },
    )
    prompts: str | None = field(
        default=None,
        metadata={
            "help": "A text file with one sentence per line and one [MASK] in each, which the model fills before and "
            "after training. By default, the prompts are those from the held-out text that change most."
        },
    )
    eval_draws: int = field(
        default=5,
        metadata={
            "help": "How many times the held-out text is measured, each time with different masks, at most; a large "
            "text needs fewer."
        },
    )
    pseudo_perplexity_tokens: int = field(
        default=65_536,
        metadata={
            "help": "About how many positions may be computed for pseudo-perplexity, which masks a sample of the "
            "held-out tokens one at a time. Half of it for ordinary language."
        },
    )
    prompts_compared: int = field(
        default=100,
        metadata={"help": "The number of words of the held-out text from which the prompts shown are chosen."},
    )
    overwrite: bool = field(default=False, metadata={"help": "Allow output_dir to contain a finished run."})
    change_on_resume: list[str] | None = field(
        default=None,
        metadata={
            "help": "With resume_from_checkpoint: the names of values that may differ from the checkpoint's, such as "
            "learning_rate max_steps."
        },
    )

    # Values whose default in transformers does not suit this library.
    per_device_train_batch_size: int = field(
        default=16, metadata={"help": "The number of rows per device in a training step."}
    )
    per_device_eval_batch_size: int = field(
        default=16, metadata={"help": "The number of rows per device in an evaluation step."}
    )
    logging_steps: float = field(default=1, metadata={"help": "The number of steps between two logged losses."})
    dataloader_num_workers: int | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "The number of processes that prepare batches; by default 0 on a CPU and for a stream, and 2 on a "
            "CUDA GPU, which they keep supplied for the whole run."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={
            "help": "Has no effect on the logged loss, which leaves skipped steps out (on_nonfinite); if true, every "
            "micro-batch waits for its loss."
        },
    )
    disable_tqdm: bool | None = field(
        default=None,
        metadata={
            "help": "Show no bar and no lines of progress; evaluations are still shown, one line each, unless "
            "log_level is error or critical."
        },
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=False,
        metadata={
            "help": "Has no effect: what callbacks remember is always restored, so that a resumed run stops early when "
            "the uninterrupted one does."
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Resume a run: true (from its newest checkpoint), a run folder, a checkpoint folder, or auto "
            "(resume the run if it was started before, otherwise start it)."
        },
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must be false, since the collator needs example_id."}
    )

    def __new__(cls, *args: Any, **values: Any) -> MLMConfig:
        """Refuse an unknown name with what to write instead, before Python refuses it without."""
        if cls is MLMConfig:  # a subclass may have more values
            refuse_unknown(values)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check(self)
        check_objects(self)
        if not torch.accelerator.is_available():
            # Explicit, because otherwise each of torchrun's processes would train its own model: transformers looks
            # for a GPU to decide whether there is a process group to join. It also turns off pinned memory.
            self.use_cpu = True
        take_over(self)
        if self.bf16 is None:
            elsewhere = self.fp16 or asked_sharding(self) == "DeepSpeed"  # whose file decides on the precision
            self.bf16 = precision.has_fast_bf16(self.use_cpu) and not elsewhere
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
        rejoin_process_group(self.ddp_backend or ("gloo" if self.use_cpu else "nccl"), self.ddp_timeout)
        device = super()._setup_devices
        # Before 5.18, transformers cannot load an optimizer's state onto "cpu:1", so several processes cannot resume.
        return torch.device("cpu") if device.type == "cpu" else device

    def masking(self) -> dict[str, Any]:
        """Return the keyword arguments of DataCollatorForMaskedLM that this config sets."""
        names = ("mlm_probability", "mask_replace_prob", "random_replace_prob", "padding", "pad_to_multiple_of")
        return {name: getattr(self, name) for name in (*names, "loss_on", "static_masks", "seed")}

    def start(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_model` that describe a run's start."""
        names = ("from_scratch", "trust_remote_code")
        found = {name: getattr(self, name) for name in names}
        return found | {"revision": self.model_revision, "tokenizer_name": self.tokenizer}

    def vocabulary(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_or_train_tokenizer` that this config sets."""
        names = ("from_scratch", "trust_remote_code", "tokenizer", "tokenizer_revision", "vocab_size")
        return {name: getattr(self, name) for name in names} | {"revision": self.model_revision}

    def where(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_corpus` that select a part and a version of the corpus."""
        return {name: getattr(self, f"corpus_{name}") for name in ("config", "split", "revision", "sha256")}

    def reading(self) -> dict[str, Any]:
        """Return the keyword arguments of `load_corpus` that describe how any text is read."""
        return {name: getattr(self, name) for name in ("text_column", "sample_by", "encoding", "encoding_errors")}

    def rows(self) -> dict[str, Any]:
        """Return the keyword arguments of `mlm_recipes.data.rows.to_rows` that this config sets."""
        return {name: getattr(self, name) for name in ("packing", "long_text", "stride", "num_proc")}

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
