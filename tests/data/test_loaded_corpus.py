from __future__ import annotations

import pytest

from mlm_recipes import load_corpus


@pytest.mark.parametrize(
    "change",
    [
        lambda corpus: corpus.map(lambda row: {"length": len(row["text"])}),
        lambda corpus: corpus.filter(lambda row: len(row["text"]) > 40),
        lambda corpus: corpus.shuffle(seed=0).flatten_indices(),
        lambda corpus: corpus.rename_column("text", "said").remove_columns("example_id"),
        lambda corpus: corpus.select_columns(["text"]).with_format("numpy"),
    ],
    ids=["map", "filter", "order", "names", "columns"],
)
def test_facts_are_kept(change):
    corpus = load_corpus("general-english")
    changed = change(corpus)
    assert changed.facts == corpus.facts
    assert changed is not corpus
    assert list(changed) == ["train", "validation"]
