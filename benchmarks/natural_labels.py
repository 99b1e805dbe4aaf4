"""Makes a text to train on and a labelled task from texts whose files are the labels: authors, books, chapters, kinds.

    python benchmarks/natural_labels.py --into tasks/novels woman.txt princess.txt serpent.txt

writes tasks/novels.txt, on which a model can be adapted, and tasks/novels.csv, a probe with the columns `text` and
`label`: which of the files a paragraph is from. The two are disjoint: of each file the beginning is trained on, and the
paragraphs of the rest are asked about, except those that stand in the beginnings nearly as they are. So neighbouring
paragraphs do not come to both sides, except at the cut. Each label gets the same number of paragraphs.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from mlm_recipes.data.corpus import load_paragraphs
from mlm_recipes.data.corpus_name import resolve
from mlm_recipes.data.file_formats import stem
from mlm_recipes.evaluation.probes.leakage import leaked

#: Fewer labelled paragraphs show nothing.
FEWEST = 300


@dataclass(frozen=True)
class Task:
    """What is trained on; what is asked about, with its labels; and how many paragraphs stood in the training text."""

    training: list[str]
    texts: list[str]
    labels: list[str]
    left_out: int


def task_from(
    files: list[str], most: int, shortest: int = 60, longest: int = 10_000, trained: float = 0.5, seed: int = 0
) -> Task:
    """Divide files, read as the product reads a corpus, into a training text and a task.

    Args:
        files: one for each label, which is its name.
        most: the most paragraphs that are asked about, of all labels together.
        shortest, longest: characters of those; the training text keeps the others, too.
        trained: the share of each file, from its beginning, that is trained on.
        seed: of which paragraphs are asked about.

    Raises: ValueError if fewer than 300 paragraphs remain.
    """
    training, asked, left_out = [], {}, 0
    for file in files:
        texts = load_paragraphs(resolve(file))["text"][:]
        cut = round(trained * len(texts))
        training += texts[:cut]
        asked[stem(Path(file))] = [text for text in texts[cut:] if shortest <= len(text) <= longest]
    for label, texts in asked.items():
        exact, near = leaked(texts, training)
        asked[label] = [text for text, one, other in zip(texts, exact, near, strict=True) if not one and not other]
        left_out += len(texts) - len(asked[label])
    each = min(most // len(asked), *map(len, asked.values()))
    if each * len(asked) < FEWEST:
        found = ", ".join(f"{label} {len(texts)}" for label, texts in asked.items())
        raise ValueError(
            f"files: each of the {len(asked)} labels has {each} paragraphs to ask about ({found}; at most {most} are "
            f"wanted). Accepted: {FEWEST} of all labels together. Leave out the smallest file, or add text."
        )
    generator = np.random.default_rng(seed)
    drawn = {label: np.sort(generator.permutation(len(texts))[:each]).tolist() for label, texts in asked.items()}
    chosen = [(asked[label][index], label) for label, indices in drawn.items() for index in indices]
    return Task(training, [text for text, _ in chosen], [label for _, label in chosen], left_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="text files, one for each label")
    parser.add_argument("--into", type=Path, required=True, help="PATH of the two files, without .txt and .csv")
    parser.add_argument("--most", type=int, default=2_000, help="paragraphs to ask about, of all labels together")
    parser.add_argument("--shortest", type=int, default=60, help="characters of such a paragraph")
    parser.add_argument("--longest", type=int, default=10_000)
    parser.add_argument("--trained", type=float, default=0.5, help="the share of each file that is trained on")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    try:
        task = task_from(options.files, options.most, options.shortest, options.longest, options.trained)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    options.into.parent.mkdir(parents=True, exist_ok=True)
    text, table = (options.into.with_name(options.into.name + ending) for ending in (".txt", ".csv"))
    text.write_text("".join(paragraph + "\n" for paragraph in task.training), encoding="utf-8")
    with table.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows(zip(task.texts, task.labels, strict=True))
    words = sum(len(paragraph.split()) for paragraph in task.training)
    print(
        f"{text}: {len(task.training):,} paragraphs, {words:,} words. {table}: {len(task.texts):,} paragraphs, "
        f"{len(set(task.labels))} labels; {task.left_out:,} more stand in the training text."
    )


if __name__ == "__main__":
    main()
