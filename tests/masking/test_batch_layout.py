from __future__ import annotations

import ast
from pathlib import Path

import torch

import mlm_recipes
from mlm_recipes.masking.batch_layout import IGNORE_INDEX, is_joined, joined_row, lengths_of, sum_by_example


def test_only_one_file_knows_the_layout_of_a_batch():
    """No other module uses the label of positions without a loss, or the key of a joined row."""
    package = Path(mlm_recipes.__file__).parent
    spelled = {
        (str(path.relative_to(package)), ast.unparse(node))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant | ast.UnaryOp) and ast.unparse(node) in ("-100", "'cu_seq_lens_q'")
    }
    assert spelled == {("masking/batch_layout.py", "-100"), ("masking/batch_layout.py", "'cu_seq_lens_q'")}
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORE_INDEX


def test_lengths_count_real_tokens():
    padded = {"input_ids": torch.ones(2, 4), "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])}
    joined = {"input_ids": torch.ones(1, 5)} | joined_row(torch.tensor([2, 3]))
    assert (is_joined(padded), is_joined(joined)) == (False, True)
    assert lengths_of(padded).tolist() == lengths_of(joined).tolist() == [2, 3]
    assert lengths_of({"input_ids": torch.ones(2, 4)}).tolist() == [4, 4]


def test_sums_of_a_joined_row_equal_those_of_the_padded_batch():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    padded = {"labels": torch.tensor([[-100, 5, 5], [5, -100, -100], [-100, -100, -100], [5, -100, -100]])}
    lengths = joined_row(torch.tensor([3, 2, 1, 1]))
    joined = {"labels": torch.tensor([[-100, 5, 5, 5, -100, -100, 5]])} | lengths
    expected = [[3.0, 2.0], [4.0, 1.0], [0.0, 0.0], [8.0, 1.0]]
    for batch in (padded, joined):
        assert sum_by_example(batch, values, values > 0).tolist() == expected
