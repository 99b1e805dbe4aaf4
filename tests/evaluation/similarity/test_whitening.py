from __future__ import annotations

import numpy as np

from mlm_recipes.evaluation.similarity.whitening import MOST, Whitening


def narrow(texts, width, seed=0):
    """Vectors as of a masked-language model: correlated, and far from zero."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(texts, width)) @ generator.normal(size=(width, width)) + 30


def test_whitened_vectors_are_uncorrelated_and_of_equal_variance():
    vectors = narrow(400, 12)
    found = Whitening.fit(vectors)(vectors)
    np.testing.assert_allclose(found.T @ found / 400, np.eye(12), atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)


def test_few_texts_keep_few_dimensions_those_of_largest_variance():
    vectors = narrow(40, 64)
    whitening = Whitening.fit(vectors)
    assert whitening.kernel.shape == (64, 10)
    variances = np.linalg.eigvalsh(np.cov(vectors.T, bias=True))[::-1]
    np.testing.assert_allclose(1 / (whitening.kernel**2).sum(axis=0), variances[:10])


def test_no_more_than_the_paper_keeps():
    assert Whitening.fit(narrow(1200, MOST + 20)).kernel.shape[1] == MOST


def test_dimensions_without_variance_are_left_out():
    vectors = narrow(400, 3)
    assert Whitening.fit(np.concatenate([vectors, vectors], axis=1)).kernel.shape == (6, 3)
    assert np.isfinite(Whitening.fit(np.ones((20, 4)))(np.ones((2, 4)))).all()
