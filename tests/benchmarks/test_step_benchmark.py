"""The rows of benchmarks/step.py, and what it leaves behind."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import fields

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode


@pytest.mark.slow
def test_a_step_in_float32_says_by_which_instructions(benchmark, tmp_path, monkeypatch, capsys):
    """Two rows of the table on three short paragraphs: as many as need no minute."""
    step = benchmark("step")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"The {word} of a short text." for word in "abcdefghijklmnopqrstuvwxyz" * 2), "utf-8")
    rows = tuple(row for row in step.ROWS_FLOAT32 if row.whose == "peer" or row.lean)
    monkeypatch.setattr(step, "ROWS_FLOAT32", (step.TUTORIAL, *rows))
    monkeypatch.setattr(step, "LENGTH", 16)
    monkeypatch.setattr(step, "matrix_rate", lambda device, dtype: {"any": 1e12})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    arguments = ["--float32", "--sizes", "mini", "--text", str(text), "--output", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["step.py", *arguments])
    step.main()
    (path,) = (tmp_path / "results").iterdir()
    result = json.loads(path.read_text("utf-8"))
    instructions = torch.backends.cpu.get_cpu_capability()
    assert path.name.startswith(f"step_{result['machine']['processor']}-{instructions.lower()}-")
    assert result["machine"]["instructions"] == instructions
    assert result["machine"]["settings"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    figures = result["sizes"]["mini"]
    assert list(figures["matrix_flops_per_second"]) == ["float32"]
    assert [row["row"] for row in figures["rows"]] == [row.name for row in step.ROWS_FLOAT32]
    assert figures["rows"][1]["times_peer_as_run"] == figures["rows"][2]["times_peer_at_best"] == 1
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["step.py", "--tables", str(path)])
    step.main()
    assert step.table_of(figures) in capsys.readouterr().out


@pytest.mark.parametrize("table", ["ROWS", "ROWS_FLOAT32"])
def test_each_row_of_ours_turns_one_switch(benchmark, table):
    step = benchmark("step")
    ours = [row for row in getattr(step, table) if row.whose == "ours" and not row.only_full]
    for row, following in itertools.pairwise(ours):
        switches = {item.name for item in fields(row) if item.name != "name"}
        assert len([name for name in switches if getattr(row, name) != getattr(following, name)]) == 1
    assert ours[-1].lean
    assert any(row.bf16 for row in getattr(step, table)) is (table == "ROWS")


def test_steps_of_both_kinds_of_adamw_may_take_turns_on_a_gpu(benchmark):
    """Each finds its count of steps where it needs it; shown on tensors that only pretend to be on a GPU."""
    step = benchmark("step")
    gpu = torch.device("cuda", 0)
    with FakeTensorMode():
        weight = torch.nn.Parameter(torch.empty(2, 2, device=gpu))
        weight.grad = torch.empty(2, 2, device=gpu)
        optimizer = torch.optim.AdamW([weight], fused=None)
        for fused, place in [(False, "cpu"), (True, "cuda")]:
            step.switch_fused(optimizer, fused, gpu)
            optimizer.step()
            assert optimizer.state[weight]["step"].device.type == place
        step.switch_fused(optimizer, False, gpu)
        assert optimizer.state[weight]["step"].device.type == "cpu"


@pytest.mark.gpu
def test_the_rows_of_a_step_take_turns_on_a_gpu(benchmark):
    step = benchmark("step")
    tokenizer, rows = benchmark("workload").rows_of(benchmark("workload").TEXT)
    bench = step.Bench("mini", tokenizer, torch.device("cuda"))
    batch = step.choose_batches(rows, False, 1)[0]
    for _ in range(2):
        for row in step.ROWS:
            if not row.only_full:
                assert bench.step(row, batch) > 0
