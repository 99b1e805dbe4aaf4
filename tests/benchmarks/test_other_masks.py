"""benchmarks/other_masks.py: which tokens are predicted, and what is masked beside them."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_same_tokens_are_predicted_among_any_others(benchmark, share):
    rows = torch.randint(10, 90, (6, 12), generator=torch.Generator().manual_seed(0))
    rows[:, 0], rows[:, -1] = 1, 2
    special, seen = (rows == 1) | (rows == 2), []

    def model(input_ids):
        seen.append(input_ids)
        return SimpleNamespace(logits=torch.nn.functional.one_hot(rows, 100) * 50.0)

    found = benchmark("other_masks").losses(model, rows, special, mask_id=99, share=share, each=3)
    assert len(found) == 18
    assert max(found) < 1e-6  # the model names the hidden tokens, and each is compared with its own
    masked = torch.stack(seen) == 99
    assert not masked[:, special].any()
    assert masked.any(2).all()  # one of each row
    if share == 0:
        assert (masked.sum(2) == 1).all()
        assert (masked.sum(0) <= 1).all()  # no token twice
    if share == 1:
        assert masked[:, ~special].all()


@pytest.mark.slow
def test_the_table_has_a_row_for_each_model_and_a_column_for_each_share(benchmark, tmp_path, monkeypatch, short_text):
    arguments = ["other_masks.py", "--text", str(short_text), "--length", "32", "--rows", "8", "--each", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(tmp_path)])
    module = benchmark("other_masks")
    module.main()
    (file,) = tmp_path.glob("other-masks_*.json")
    found = json.loads(file.read_text("utf-8"))["models"]["mini"]
    assert [cell["share"] for cell in found] == list(module.SHARES)
    assert {cell["tokens"] % 2 for cell in found} == {0}  # two of each row
    assert 0 < found[0]["loss"] < found[-1]["loss"]
    assert module.markdown({"mini": found}).count("|") == 3 * (len(module.SHARES) + 2)


def test_a_text_shorter_than_a_row_is_refused(benchmark):
    with pytest.raises(SystemExit, match="no row of 512 tokens: choose a longer text, or a lower --length"):
        benchmark("other_masks").measure("mini", Dataset.from_dict({"text": ["A short text."]}), 512, count=8, each=2)
