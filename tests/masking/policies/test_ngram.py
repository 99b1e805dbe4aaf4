from __future__ import annotations

import numpy as np
import pytest
from small_tokenizers import tokenizer_of

from mlm_recipes.masking.collator import DataCollatorForMaskedLM
from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policies.ngram import choose
from mlm_recipes.masking.random_keys import sequence_keys


@pytest.mark.parametrize("k", [2, 3, 6])
def test_each_run_of_k_mers_hides_a_letter_and_a_shorter_one_none(k):
    """A letter is hidden if every k-mer that it is in is masked."""
    length = 5000

    def hidden(run):
        tokens = FlatTokens(
            np.arange(length), np.full(length, True), sequence_keys(0, 0, [0]), np.array([length]), ngram=run
        )
        chosen = choose(tokens, np.array([0.15]))
        begins = np.flatnonzero(chosen & ~np.append(False, chosen[:-1]))
        seen = {letter for kmer in np.flatnonzero(~chosen) for letter in range(kmer, kmer + k)}
        inside = [begin for begin in begins if 0 < begin < length - run]
        return [sum(letter not in seen for letter in range(begin, begin + run + k - 1)) for begin in inside]

    assert set(hidden(k)) == {1}
    assert set(hidden(k - 1)) == {0}
    assert set(hidden(k + 2)) == {3}


def test_the_default_is_the_vocabularys_k():
    rows = [tokenizer_of("k-mers")("ACG CGT GTA TAC ACC CCC CCG CGT " * 20)["input_ids"]]
    for ngram, expected in ((None, 3), (4, 4)):
        collate = DataCollatorForMaskedLM(tokenizer_of("k-mers"), masking_policy="ngram", mask_ngram=ngram, seed=2)
        masked = (collate(rows)["labels"][0] != -100).numpy()
        borders = np.flatnonzero(np.diff(np.concatenate([[0], masked, [0]])))
        assert set((borders[1::2] - borders[::2])[1:-1].tolist()) == {expected}


def test_a_run_is_replaced_together():
    """A k-mer that stayed as it is would give its neighbours away."""
    tokenizer = tokenizer_of("k-mers")
    rows = [tokenizer("ACG CGT GTA TAC ACC CCC CCG CGT " * 30)["input_ids"] for _ in range(8)]
    collate = DataCollatorForMaskedLM(
        tokenizer, masking_policy="ngram", mask_replace_prob=0.5, random_replace_prob=0.0, seed=0
    )
    batch = collate(rows)
    chosen, mask = (batch["labels"] != -100).numpy(), (batch["input_ids"] == tokenizer.mask_token_id).numpy()
    both = chosen[:, 1:] & chosen[:, :-1]
    assert (mask[:, 1:] == mask[:, :-1])[both].all()
    assert 0.3 < mask[chosen].mean() < 0.7
