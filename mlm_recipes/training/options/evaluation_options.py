"""`EvaluationOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class EvaluationOptions:
    """What is measured before and after training, and the run's folder."""

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
            "has forgotten, and that masking_policy informative compares the training text with; `none` turns this off."
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
            "held-out tokens one at a time; as many for the loss per word. Half of it for ordinary language."
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
    probe: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Tables of texts with labels, such as reviews.csv: how well a linear classifier on the model's "
            "frozen features does each task is measured before and after training. A file (CSV, TSV, JSON lines, "
            "Parquet ...), a hub id owner/name or owner/name:configuration, or the bundled `stoic`. By default none."
        },
    )
    probe_text_column: str | None = field(
        default=None,
        metadata={"help": "The column of a probe that contains the texts; by default it is chosen if that is clear."},
    )
    probe_label_column: str | None = field(
        default=None,
        metadata={
            "help": "The column of a probe that contains the labels; by default `label`, or the only one that may be."
        },
    )
    max_probe_samples: int = field(
        default=2_000,
        metadata={
            "help": "The most texts of a probe that are used, drawn at random; 2,000 are usually enough for a "
            "difference of two points, and take seconds."
        },
    )
    probe_pairs: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Tables of pairs of texts (columns such as text1, text2 and score): how well the similarities of "
            "the encoder's vectors rank them, before and after training. By default none."
        },
    )
    probe_search: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Folders with corpus.jsonl, queries.jsonl and qrels.tsv: how well the encoder's vectors find the "
            "relevant documents, before and after training. By default none."
        },
    )
