"""The time that an inspection reports, compared with the steps of a real run, or computed from given seconds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mlm_recipes import DataCollatorForMaskedLM, inspect_corpus
from mlm_recipes.recipes import inspection_timing


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


def test_timing_takes_real_steps_and_leaves_nothing(checkpoint, short_text, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    batches = []
    collate = DataCollatorForMaskedLM.__call__

    def counted(self, examples, **kwargs):
        batches.append(len(examples))
        return collate(self, examples, **kwargs)

    monkeypatch.setattr(DataCollatorForMaskedLM, "__call__", counted)
    before = digests(checkpoint)
    found = inspect_corpus(
        model=str(checkpoint), corpus=str(short_text), gradient_accumulation_steps=2, per_device_train_batch_size=4,
        num_train_epochs=3,
    )  # fmt: skip
    time = found.facts["time"]
    assert len(time["steps_timed"]) == 5
    assert time["seconds_per_step"] == sorted(time["steps_timed"])[2] > 0
    assert (time["batch"], time["micro_batches"], time["precision"]) == (8, 2, "float32")
    assert (time["steps_an_epoch"], time["steps_of_the_run"]) == (7, 21)  # 54 paragraphs
    assert time["seconds_of_the_run"] == 21 * time["seconds_per_step"]
    assert batches.count(4) >= 13  # seven steps in two parts each; an epoch's last step has 4 and 2
    assert digests(checkpoint) == before
    assert list(tmp_path.iterdir()) == []
    assert "batches of 8 in 2 parts, float32" in " ".join(str(found).split())


def test_train_minutes_is_reported_in_steps(checkpoint, short_text, monkeypatch):
    monkeypatch.setattr(inspection_timing, "time_steps", lambda *_, **__: [2.0])
    found = inspect_corpus("adapt", model=str(checkpoint), corpus=str(short_text), train_minutes=5).facts["time"]
    assert (found["steps_of_the_run"], found["seconds_of_the_run"], found["batch"]) == (150, 300, 16)


@pytest.mark.parametrize(
    ("changes", "batch", "parts", "steps"),
    [
        ({"per_device_train_batch_size": 4}, 8, 2, 7),  # of 54 paragraphs
        ({"per_device_train_batch_size": 16}, 8, 1, 7),
        ({"per_device_train_batch_size": 4, "global_batch_size": 16, "train_minutes": 0.1}, 8, 2, 7),
    ],
)
def test_a_global_batch_is_the_batch_of_a_step(checkpoint, short_text, monkeypatch, changes, batch, parts, steps):
    timed = []

    def seconds(model, config, *_, **__):
        timed.append(config.global_batch_size)
        return [2.0]

    monkeypatch.setattr(inspection_timing, "time_steps", seconds)
    values = {"model": str(checkpoint), "corpus": str(short_text), "global_batch_size": 8}
    found = inspect_corpus(**values | changes).facts
    assert timed[-1] == batch
    assert [found["time"][name] for name in ("batch", "micro_batches", "steps_an_epoch")] == [batch, parts, steps]
    assert found["time"]["seconds_an_epoch"] == steps * 2.0
    assert found["recipe"]["per_device_train_batch_size"] == batch // parts  # to whose longest row others are padded


def test_a_schedule_that_the_run_has_steps_for_gives_no_warning(checkpoint, short_text, caplog):
    phases = {"mlm_probability_end": [0.15, 0.05], "mlm_probability_boundaries": [0.8, 0.95]}
    inspect_corpus(
        model=str(checkpoint), corpus=str(short_text), mlm_probability=0.3, mlm_probability_schedule="step",
        max_steps=1000, **phases,
    )  # fmt: skip
    assert "mlm_probability_schedule: received" not in caplog.text
