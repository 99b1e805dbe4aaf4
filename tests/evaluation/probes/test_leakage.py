from __future__ import annotations

from mlm_recipes.data.near_duplicates import near_duplicate_groups
from mlm_recipes.evaluation.probes.leakage import leaked

LONG = "we found the boat tied to the old jetty below the mill and nobody in it but a sleeping dog"
WORDS = LONG.split()


def test_equal_and_nearly_equal_texts_are_found():
    one_word_less = " ".join([*WORDS[:-1]])
    texts = [LONG, one_word_less, "nothing of this is in the other text at all, or so we hope", "a dog"]
    training = [f"  {LONG.upper()} ", "some other paragraph about a dog and a boat", "A  DOG"]
    exact, near = leaked(texts, training)
    assert exact.tolist() == [True, False, False, True]
    assert near.tolist() == [False, True, False, False]


def test_a_sentence_out_of_a_long_paragraph_is_found_that_jaccard_misses():
    around = " ".join(f"word{n}" for n in range(200))
    paragraph = f"{around} {LONG} {around[::-1]}"
    assert leaked([LONG], [paragraph])[1].tolist() == [True]
    assert len(set(near_duplicate_groups([LONG, paragraph]).tolist())) == 2


def test_near_duplicates_by_jaccard_are_always_found():
    words = [f"w{n}" for n in range(60)]
    changed = " ".join([*words[:30], "other", *words[31:]])
    assert len(set(near_duplicate_groups([" ".join(words), changed]).tolist())) == 1
    assert leaked([changed], [" ".join(words)])[1].tolist() == [True]


def test_texts_that_share_only_some_runs_are_not_leaked():
    exact, near = leaked([LONG], [" ".join(WORDS[:10])])
    assert not exact.any()
    assert not near.any()
