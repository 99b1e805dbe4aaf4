"""A run whose tokenizer was trained as `tokenizer_type` says, with runs of k-mers masked, measured again."""

from __future__ import annotations

import random

import pytest

from mlm_recipes import evaluate, inspect_corpus, train
from mlm_recipes.recipes.arguments import read_config, trained_model
from mlm_recipes.recipes.prepare import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dna")
    draw = random.Random(0)
    text = "\n".join("".join(draw.choices("ACGT", k=draw.randrange(30, 60))) for _ in range(40))
    (folder / "dna.txt").write_text(text + "\n", "utf-8")
    return train(
        "pretrain", model="mini-random", corpus=str(folder / "dna.txt"), tokenizer_type="kmer", kmer_length=3,
        masking_policy="ngram", mask_ngram=2,
        output_dir=str(folder / "run"), max_steps=1, per_device_train_batch_size=4, save_strategy="no", eval_draws=1,
        general_corpus="none", pseudo_perplexity_tokens=50, prompts_compared=3,
    )  # fmt: skip


def test_the_run_is_measured_again_with_its_own_tokenizer(run):
    again = evaluate(run.output_dir).metrics
    assert again["evaluation"]["loss"] == run.metrics["after"]["loss"]
    assert again["corpus"]["fingerprint"] == run.metrics["corpus"]["fingerprint"]


def test_its_text_is_read_again_with_its_own_tokenizer(run):
    found = prepare(read_config(run.output_dir, trained_model(run.output_dir)))
    assert found.tokenizer.tokenize("gatta") == ["GAT", "ATT", "TTA"]


def test_no_letter_of_a_sequence_counts_as_unknown(run):
    assert run.metrics["corpus"]["unknown"]["characters"] == 0


def test_another_policy_has_no_number_of_tokens(run):
    assert read_config(run.output_dir).mask_ngram == 2
    assert read_config(run.output_dir, {"masking_policy": "token"}).mask_ngram is None


def test_its_text_is_inspected(run):
    found = inspect_corpus(
        run.output_dir / "recipe.yaml", model=str(run.output_dir), tokenizer_type="wordpiece", timing=False
    )
    assert found.ok
