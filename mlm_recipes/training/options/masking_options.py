"""`MaskingOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...masking.policy_table import POLICIES


@dataclass
class MaskingOptions:
    """Which tokens are masked, and what the loss is computed on."""

    mlm_probability: float = field(
        default=0.15, metadata={"help": "The share of the tokens that is masked, above 0 and at most 1."}
    )
    masking_policy: str = field(
        default="token",
        metadata={
            "help": f"How tokens are chosen: {', '.join(f'{name} ({each.says})' for name, each in POLICIES.items())}. "
            "Evaluations always use token, so that runs can be compared. In equal time, whole_word, span and "
            "informative learned less than token, by that measure (docs/LOG.md)."
        },
    )
    mask_replace_prob: float = field(
        default=1.0,
        metadata={
            "help": "The share of the masked tokens that [MASK] replaces. BERT's 0.8, with random_replace_prob 0.1, "
            "learned less in equal time, measured where [MASK] replaces all (docs/LOG.md)."
        },
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
    mask_ngram: int | None = field(
        default=None,
        metadata={
            "help": "The tokens in a row that masking_policy ngram masks together; by default the letters of the "
            "vocabulary's k-mers, since fewer would hide nothing, and otherwise 3."
        },
    )
    mlm_probability_schedule: str = field(
        default="constant",
        metadata={
            "help": "How the share of masked tokens changes over the run's steps, from mlm_probability to "
            "mlm_probability_end: constant (not at all), linear, cosine or step (in phases)."
        },
    )
    mlm_probability_end: list[float] | None = field(
        default=None,
        metadata={
            "help": "The share of masked tokens in the last step, with linear or cosine; with step, the share of each "
            "phase after the first, such as 0.15 0.05."
        },
    )
    mlm_probability_boundaries: list[float] | None = field(
        default=None,
        metadata={
            "help": "With step, where each phase after the first begins, as a share of the run's steps, such as 0.8 "
            "0.95. By default all phases have the same length."
        },
    )
    word_segmenter: str = field(
        default="none",
        metadata={
            "help": "How Chinese text is divided into words, for a masking policy that masks words: none (by the "
            "tokenizer) or jieba (by a dictionary; pip install rjieba)."
        },
    )
