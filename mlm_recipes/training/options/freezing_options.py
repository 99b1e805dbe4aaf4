"""`FreezingOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FreezingOptions:
    """Which parts of the model learn, and how fast."""

    freeze: str = field(
        default="none",
        metadata={
            "help": "The part of the model that is not trained: none, embeddings, lower-N (the embeddings and the "
            "first N layers, such as lower-2), or body (everything but the head). By default all of the model learns: "
            "with less of it, steps are faster, but a minute gains less (docs/LOG.md)."
        },
    )
    layerwise_lr_decay: float = field(
        default=1.0,
        metadata={
            "help": "Each layer learns at this times the rate of the layer above it: the head at the full rate, the "
            "embeddings at the lowest. 0.9 is usual; 1, the default, is one rate for all. A minute at 0.8 gained less "
            "(docs/LOG.md)."
        },
    )
    head_warmup_steps: float | str = field(
        default=0.0,
        metadata={
            "help": "Train only the head in the first steps, with the rest frozen, for a model whose head is new: a "
            "number of steps, below 1 a share of them, or auto (a tenth if the head is new, otherwise none). None by "
            "default: a small new head gained nothing from it (docs/adapting.md)."
        },
    )
