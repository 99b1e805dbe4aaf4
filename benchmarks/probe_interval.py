"""Checks the interval of a probe's change by simulation: two encoders that are equally good must seldom look different.

    python benchmarks/probe_interval.py --pairs 1000

Each pair gets labelled texts, and two sets of features drawn from one distribution: a part that tells the label, a
part that both share, as before and after training do, and noise of their own. Everything that a probe does is done with
them: folds, the choice of layers and strength, and the bootstrap. A 95% interval should exclude zero in 5% of the
pairs; docs/LOG.md says what was found.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from mlm_recipes.evaluation.probes.folds import deal
from mlm_recipes.evaluation.probes.linear_probe import cross_validate
from mlm_recipes.evaluation.probes.paired_difference import accuracy_change, macro_f1_change
from mlm_recipes.evaluation.probes.probe import FOLDS

#: The width of the features, the ways to make them, and how far the labels are apart.
WIDTH, WAYS, APART = 16, 3, 0.45


def excludes_zero(pair: int, texts: int, kinds: int) -> tuple[bool, bool, float, float]:
    """Tell of one pair whether the intervals of accuracy and macro-F1 exclude zero; its accuracy and disagreement."""
    generator = np.random.default_rng([pair, texts, kinds])
    labels = generator.integers(kinds, size=texts)
    told = APART * generator.normal(size=(kinds, WIDTH))[labels]
    shared = generator.normal(size=(texts, WIDTH))
    groups = np.arange(texts)
    fold = deal(labels, groups, FOLDS, pair)
    answers = []
    for _ in range(2):
        own = generator.normal(size=(WAYS, texts, WIDTH))
        features = (told + 0.8 * shared + 0.6 * own).astype(np.float32)
        answers.append(cross_validate(features, labels, groups, fold).predicted)
    one, other = answers
    right = [(found == labels).astype(float) for found in answers]
    accuracy = accuracy_change(*right, groups, fold, resamples=2_000)
    f1 = macro_f1_change(labels, one, other, groups, fold, resamples=2_000)
    verdicts = [measure["verdict"] != "no measurable change" for measure in (accuracy, f1)]
    return verdicts[0], verdicts[1], accuracy["before"], float((right[0] != right[1]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first pair, to share the work")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--labels", type=int, default=2)
    options = parser.parse_args()
    started = time.monotonic()
    found = []
    for pair in range(options.pairs):
        found.append(excludes_zero(options.first + pair, options.texts, options.labels))
        if (pair + 1) % 25 == 0 or pair + 1 == options.pairs:
            accuracy, f1, right, apart = np.mean(found, axis=0)
            print(
                f"{pair + 1:5,} pairs, {options.texts} texts, {options.labels} labels: the interval of accuracy "
                f"excludes zero in {accuracy:.1%}, of macro-F1 in {f1:.1%}; accuracy {right:.1%}, they disagree on "
                f"{apart:.1%}; {time.monotonic() - started:,.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
