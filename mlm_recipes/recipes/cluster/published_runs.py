"""Pretraining runs of encoders whose time was published: what share of a GPU's peak people reach."""

from __future__ import annotations

from dataclasses import dataclass

from .accelerators import find_accelerator
from .model_shape import ModelShape

_BERT_BASE = ModelShape("BERT-base", 109.5e6, 12 * 12 * 768**2, 768 * 30_522 + 768**2, 768, 3072, False, 30_522,
                        (None,) * 12)  # fmt: skip
_MOSAIC_BERT = ModelShape("MosaicBERT-base", 137e6, 12 * (4 * 768**2 + 3 * 768 * 3072), 768 * 30_528 + 768**2, 768,
                          3072, True, 30_528, (None,) * 12)  # fmt: skip
_NEO_BERT = ModelShape("NeoBERT", 250e6, 28 * (4 * 768**2 + 3 * 768 * 2048), 768 * 30_522, 768, 2048, True, 30_522,
                       (None,) * 28)  # fmt: skip


def _modern_bert(name: str, layers: int, hidden: int, intermediate: int, parameters: float) -> ModelShape:
    """Every third layer attends to the whole row, the others to 128 tokens."""
    spans = tuple(None if layer % 3 == 0 else 128 for layer in range(layers))
    encoder = layers * (4 * hidden**2 + 3 * hidden * intermediate)
    return ModelShape(name, parameters, encoder, hidden * 50_368 + hidden**2, hidden, intermediate, True, 50_368, spans)


@dataclass(frozen=True)
class PublishedRun:
    """A run as its authors describe it.

    Attributes:
        shape: the model's.
        tokens: positions in all steps.
        length: tokens in a row.
        predicted: the share of the tokens that passed the head.
        gpu: a name of `accelerators`.
        gpus: how many.
        hours: the published wall time.
        source: where the figures come from, and what had to be inferred.
    """

    shape: ModelShape
    tokens: float
    length: int
    predicted: float
    gpu: str
    gpus: int
    hours: float
    source: str

    @property
    def share(self) -> float:
        """The share of the GPUs' peak that the published time amounts to."""
        operations = self.tokens * self.shape.operations_per_token(self.length, self.predicted)
        return operations / (3600 * self.hours * self.gpus * find_accelerator(self.gpu).peak)


PUBLISHED = (
    PublishedRun(
        _MOSAIC_BERT, 7_000 * 4096 * 128, 128, 0.3, "A100-80", 8, 1.13,
        "Portes et al. 2023 (arXiv:2312.17482): batches of 4,096 rows of 128, 30% masked. That 1.13 h are 7,000 of the "
        "70,000 steps is inferred: the published configuration saves every 3,500",
    ),
    PublishedRun(
        _BERT_BASE, 70_000 * 4096 * 128, 128, 1, "A100-80", 8, 11.5,
        "the baseline of the same paper: Hugging Face's BERT, 70,000 steps; its head computes every position",
    ),
    PublishedRun(
        _modern_bert("ModernBERT-base", 22, 768, 1152, 149e6), 1.719e12, 1024, 0.3, "H100", 8, 194.2,
        "Warner et al. 2024 (arXiv:2412.13663): the first phase, rows of 1,024, 30% masked",
    ),
    PublishedRun(
        _modern_bert("ModernBERT-large", 28, 1024, 2624, 395e6), 1.719e12, 1024, 0.3, "H100", 8, 425.3,
        "the same paper, the first phase",
    ),
    PublishedRun(
        _NEO_BERT, 2.1e12, 1024, 0.2, "H100", 8, 750,
        "Le Breton et al. 2025 (arXiv:2502.19587): 6,000 GPU hours with ZeRO, 1,050,000 steps of 2M tokens, 20% "
        "masked; its last 50,000 steps, with rows of 4,096, count as the others",
    ),
)  # fmt: skip

#: The share of a data sheet's rate that a plan assumes: between the runs of base-size encoders above. What this library
#: reached on one H200 with bert-base and full rows, 46% of the 685e12 that were measured, is 32% of the data sheet's.
USUAL_SHARE = 0.25
