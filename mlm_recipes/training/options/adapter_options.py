"""`AdapterOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AdapterOptions:
    """Training an adapter instead of the whole model; the defaults' sources are in docs/adapting.md."""

    peft: str = field(
        default="none",
        metadata={
            "help": "What is trained: none (the whole model), or lora: two small matrices beside each linear layer "
            "(needs the package peft). It saves space; in equal time it gains less (docs/adapting.md)."
        },
    )
    lora_r: int = field(default=16, metadata={"help": "With peft lora: the rank of the update of each layer."})
    lora_alpha: float = field(
        default=32,
        metadata={"help": "With peft lora: each update is multiplied by lora_alpha / lora_r; twice the rank is usual."},
    )
    lora_dropout: float = field(
        default=0.0, metadata={"help": "With peft lora: the dropout of the input of each update."}
    )
    lora_target_modules: str | list[str] = field(
        default="all-linear",
        metadata={
            "help": "With peft lora: which layers get an update: all-linear (every linear layer of the encoder), "
            "attention, or names of layers such as query value."
        },
    )
    lora_train_head: bool = field(
        default=True,
        metadata={
            "help": "With peft lora: train the masked-language-modelling head too, all but its projection to the "
            "vocabulary; the loss falls by a tenth more. A head that is new is trained in any case."
        },
    )
    lora_merge: bool | None = field(
        default=None,
        metadata={
            "help": "With peft lora: save the whole model with the updates added to its weights instead of the adapter "
            "alone; by default unless the model is one of the hub, since an adapter is of no use without its model. "
            "Only for `train`."
        },
    )
