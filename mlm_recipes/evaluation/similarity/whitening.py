"""Whitening: vectors whose dimensions are uncorrelated and of equal variance, on the texts that it is fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...masking.random_keys import Floats

#: The most dimensions that are kept, as the paper keeps of BERT-base's 768.
MOST = 256

#: So many texts are needed for each dimension: of fewer, the smallest variances would be far too small.
_TEXTS_PER_DIMENSION = 4


@dataclass(frozen=True)
class Whitening:
    """A linear map, `(vector - mean) @ kernel` (Su et al. 2021, https://arxiv.org/abs/2103.15316).

    The vectors of a masked-language model lie in a narrow cone: the similarity of any two of them is high, and a few
    dimensions decide on it. Whitening needs no labels, only texts.

    `mean` has the shape `(hidden,)`, `kernel` `(hidden, dimensions)`.
    """

    mean: Floats
    kernel: Floats

    @classmethod
    def fit(cls, vectors: Floats) -> Whitening:
        """Fit to vectors of texts, shape `(texts, hidden)`, and keep the dimensions of largest variance.

        These are at most 256, and a quarter of the texts.

        >>> vectors = np.random.default_rng(0).normal(size=(1000, 2)) @ np.array([[5.0, 0.0], [3.0, 0.1]])
        >>> np.allclose(np.cov(Whitening.fit(vectors)(vectors).T, bias=True), np.eye(2))
        True
        """
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / len(vectors))  # in rising order
        kept = max(1, min(MOST, len(vectors) // _TEXTS_PER_DIMENSION, len(variances)))
        variances, directions = variances[::-1][:kept], directions[:, ::-1][:, :kept]
        usable = variances > variances[0] * np.finfo(np.float32).eps  # what was computed in float32 has no others
        if not usable.any():  # all texts have the same vector
            usable[:] = True
            variances = np.ones_like(variances)
        return cls(mean, directions[:, usable] / np.sqrt(variances[usable]))

    def __call__(self, vectors: Floats) -> Floats:
        """Return whitened vectors, shape `(texts, dimensions)`."""
        return (vectors - self.mean) @ self.kernel
