"""What `mlm-recipes plan` is asked: the options of the verb, their defaults, and what is accepted."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from .accelerators import ACCELERATORS
from .model_shape import BERT_VOCABULARY
from .published_runs import USUAL_SHARE
from .quantities import parse_quantity

#: 6.5 failures in a thousand days of a node (Kokolis et al. 2024, https://arxiv.org/abs/2410.21680, the cluster RSC-1).
NODE_FAILURE_HOURS = 24_000 / 6.5

#: The options that are counts, which have to be at least one.
_COUNTS = (
    "gpus", "vocab_size", "max_length", "per_device_train_batch_size", "gradient_accumulation_steps", "gpus_per_node",
)  # fmt: skip


def _option(default: Any, what: str) -> Any:
    return field(default=default, metadata={"help": what})


@dataclass(frozen=True)
class ClusterRequest:
    """What is to be planned; the values that a recipe has too are named as there.

    Either `params` or `model` says how large the model is. Each field's help describes it.

    Raises: ValueError for values that make no sense.

    >>> ClusterRequest(tokens=2e9, gpus=8, params=110e6, share=1.5)
    Traceback (most recent call last):
    ...
    ValueError: share: received 1.5. Accepted: above 0, at most 1. Pass --share with such a number.
    """

    tokens: float = field(metadata={"help": "tokens that training reads, all epochs together, such as 2B"})
    gpus: int = _option(1, "how many GPUs")
    params: float | None = _option(None, "the model's number of parameters, such as 110M; BERT's shape is assumed")
    model: str | None = _option(None, "instead of --params: a built-in model, a folder or a hub id, to read its config")
    vocab_size: int | None = _option(None, f"with --params: tokens in the vocabulary (default: {BERT_VOCABULARY})")
    gpu: str = _option("H100", f"one of {', '.join(each.name for each in ACCELERATORS)}")
    share: float = _option(USUAL_SHARE, "the share of the GPU's peak that training reaches, as published runs did")
    max_length: int = _option(512, "tokens in a row")
    mlm_probability: float = _option(0.15, "the share of the tokens that is masked")
    sparse_prediction: bool = _option(True, "whether the vocabulary head computes masked tokens only")
    per_device_train_batch_size: int = _option(32, "rows in a micro-batch")
    gradient_accumulation_steps: int = _option(1, "micro-batches in a step")
    muon: bool = _option(False, "the optimizer Muon instead of AdamW")
    bf16_residual: bool = _option(False, "a residual stream in 16 bits")
    gradient_checkpointing: bool = _option(False, "keep the inputs of layers only, and compute the rest again")
    gpus_per_node: int = _option(8, "GPUs that fail together")
    node_failure_hours: float = _option(NODE_FAILURE_HOURS, "mean hours between two failures of a node")
    save_gb_per_second: float = _option(1.0, "how fast a checkpoint is written, in GB/s")
    restart_minutes: float = _option(5.0, "minutes from a failure until training goes on")
    price: float | None = _option(None, "of a GPU for an hour, in any currency")
    trust_remote_code: str | None = _option(None, "the model's name, to allow its own code to run")

    def __post_init__(self) -> None:
        for name in _COUNTS:
            self._require(name, getattr(self, name) is None or getattr(self, name) >= 1, "a whole number from 1 on")
        for name in ("tokens", "node_failure_hours", "save_gb_per_second"):
            self._require(name, getattr(self, name) > 0, "a number above 0")
        for name in ("share", "mlm_probability"):
            self._require(name, 0 < getattr(self, name) <= 1, "above 0, at most 1")
        self._require("restart_minutes", self.restart_minutes >= 0, "a number from 0 on")
        self._require("price", self.price is None or self.price >= 0, "a number from 0 on")
        if (self.params is None) == (self.model is None):
            received = "neither it nor --model" if self.params is None else "both it and --model"
            raise ValueError(
                f"params: received {received}. Accepted: one of them. Pass --params 110M, or --model with a name whose "
                "config has the sizes."
            )
        if self.model is not None and self.vocab_size is not None:
            raise ValueError(
                f"vocab_size: received {self.vocab_size} with --model {self.model}. Accepted: nothing, since the "
                "model's config says it. Leave it out."
            )

    def _require(self, name: str, fits: bool, accepted: str) -> None:
        if not fits:
            raise ValueError(
                f"{name}: received {getattr(self, name)}. Accepted: {accepted}. Pass --{name} with such a number."
            )

    @property
    def predicted(self) -> float:
        """The share of the tokens that passes the head."""
        return self.mlm_probability if self.sparse_prediction else 1.0

    @property
    def step_tokens(self) -> int:
        """The tokens of a step, on all GPUs."""
        rows = self.gpus * self.per_device_train_batch_size * self.gradient_accumulation_steps
        return rows * self.max_length


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option to `parser` for each field of ClusterRequest."""
    for item in fields(ClusterRequest):
        default = None if item.default is MISSING else item.default
        shown = f"{default:g}" if isinstance(default, float) else default
        parser.add_argument(
            f"--{item.name}",
            default=argparse.SUPPRESS,
            required=item.default is MISSING,
            metavar="VALUE",
            help=f"{item.metadata['help']}{'' if default is None else f' (default: {shown})'}",
        )


def request_of(options: dict[str, str]) -> ClusterRequest:
    """Return the request of a command line's options, given as text.

    Raises: ValueError for a value that cannot be read.

    >>> request_of({"tokens": "2B", "params": "110M", "gpus": "8", "muon": "true"}).muon
    True
    """
    kinds = {item.name: str(item.type) for item in fields(ClusterRequest)}
    return ClusterRequest(**{name: _value(name, text, kinds[name]) for name, text in options.items()})


def _value(name: str, text: str, kind: str) -> Any:
    if kind.startswith("str"):
        return text
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(
                f"{name}: received {text!r}. Accepted: true or false. Pass --{name} true, or leave it out."
            )
        return text.lower() == "true"
    if text.strip() == "0":
        return 0  # refused or accepted with the reason of the option
    number = parse_quantity(text, name)
    if kind.startswith("int"):
        if number != int(number):
            raise ValueError(f"{name}: received {text!r}. Accepted: a whole number. Round it.")
        return int(number)
    return number
