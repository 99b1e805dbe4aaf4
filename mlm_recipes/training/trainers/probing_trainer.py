"""`ProbingTrainer`: features of texts from the model as it is, and evaluations of them during training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from accelerate.utils import gather_object

from ...evaluation.probes.feature_cache import features_key, keep, kept
from ...evaluation.probes.features import layer_means
from ...evaluation.probes.probe import Probe
from ...masking.random_keys import Floats
from ..distributed.launcher import asked_sharding
from ..distributed.processes import from_main
from .fast_trainer import FastTrainer


class ProbingTrainer(FastTrainer):
    """FastTrainer that reads texts with the model, and measures how well they can be classified."""

    #: The probes whose mean accuracy every evaluation during training returns, as `eval_probe_accuracy`.
    selecting: Sequence[Probe] = ()

    def text_features(self, rows: Sequence[Sequence[int]], cached: bool = False) -> Floats:
        """Return the features of rows of token ids, shape `(3, rows, hidden)`, in every process.

        All processes must call this. With `cached`, features are kept on disk, and those of the same weights and rows
        are taken from there; a model that is divided among processes has no weights to tell it by.
        """
        key = None
        if cached and not asked_sharding(self.args):
            dtype = "bf16" if self.args.bf16 else "fp16" if self.args.fp16 else "float32"
            key = from_main(lambda: features_key(self.model, rows, dtype))
            if (found := from_main(lambda: kept(key))) is not None:
                return found
        with self.accelerator.autocast():
            mine = layer_means(
                self.model,
                rows,
                self.processing_class,
                self.sparse_prediction,
                self.accelerator.process_index,
                self.accelerator.num_processes,
                bar=not self.args.disable_tqdm,
            )
        parts: list[tuple[list[int], Floats]] = gather_object([mine])
        features = np.empty((len(mine[1]), len(rows), max(part.shape[-1] for _, part in parts)), np.float32)
        for indices, part in parts:
            if indices:
                features[:, indices] = part
        if key is not None and self.is_world_process_zero():
            keep(key, features)
        return features

    def probe_accuracy(self) -> float:
        """Return the mean accuracy of the `selecting` probes; all processes must call this."""
        found = []
        for probe in self.selecting:
            features = self.text_features(probe.rows)
            found.append(from_main(partial(probe.accuracy, features)))
        return float(np.mean(found))
