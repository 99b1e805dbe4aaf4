"""What the benchmarks leave behind; what they measure, `make bench` and `make parity` run."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import fields

import pytest
import torch
from conftest import ROOT
from torch._subclasses.fake_tensor import FakeTensorMode


@pytest.fixture
def benchmark(monkeypatch):
    """Import one of the scripts as it is imported when run: its folder comes first on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_a_result_says_when_and_on_what_it_was_measured(benchmark, tmp_path, capsys):
    path = benchmark("result_file").write_result(tmp_path / "new", "step", {"rows": [1]})
    assert path == benchmark("result_file").result_path(tmp_path / "new", "step")
    assert str(path) in capsys.readouterr().out
    result = json.loads(path.read_text("utf-8"))
    assert list(result) == ["date", "machine", "versions", "rows"]
    assert path.name == f"step_{result['machine']['processor']}-{result['machine']['cores']}cores_{result['date']}.json"
    assert result["versions"]["torch"]
    assert result["rows"] == [1]


def test_the_rows_of_a_day_can_be_measured_one_after_another(benchmark, tmp_path, monkeypatch):
    adaptation = benchmark("adaptation")

    def measure(text, model, seed, general, changes):
        measured = {"loss": 2.0, "accuracy": 0.5, "masked_tokens": 9}
        return {
            "text": text, "model": model, "seed": seed, "gain": {"loss": 1.0, "low": 0.5, "high": 1.5},
            "before": measured, "after": measured, "general": {"text": general}, "epochs": 1.0,
            "seconds": 1.0, "steps": 1, "batch": 1,
        }  # fmt: skip

    def texts(*arguments):
        monkeypatch.setattr(sys, "argv", ["adaptation.py", "--output", str(tmp_path), "--seeds", "1", *arguments])
        adaptation.main()
        (path,) = tmp_path.iterdir()
        return [(row["text"], row["model"]) for row in json.loads(path.read_text("utf-8"))["rows"]]

    monkeypatch.setattr(adaptation, "measure", measure)
    first = [("a", "mini"), ("a", "mini-random")]
    assert texts("--text", "a") == first
    assert texts("--text", "b", "--model", "mini", "--add") == [*first, ("b", "mini")]
    assert texts("--text", "b", "--model", "mini") == [("b", "mini")]


def test_a_bf16_residual_is_compared_seed_by_seed(benchmark):
    script = benchmark("bf16_residual")
    runs = [
        {"start": "mini", "seed": seed, "bf16_residual": residual, "steps": 200, "curve": [9.0, 7.0, 5.0, loss],
         "held_out": 2.0 * loss, "held_out_autocast": loss}
        for seed, residual, loss in [(0, False, 3.0), (0, True, 3.5), (1, False, 4.0), (1, True, 4.25)]
    ]  # fmt: skip
    first, held_out, autocast = script.compared(runs)
    assert first["measure"] == "training, step 100"  # the only one within 200 steps
    assert first["float32"] == {"mean": 8.0, "spread": 0.0}  # the first two means of fifty steps
    assert held_out["difference"]["mean"] == 0.75
    assert autocast["float32"]["mean"] == 3.5
    assert autocast["bf16"]["mean"] == 3.875
    assert autocast["difference"] == {"mean": 0.375, "spread": pytest.approx(0.125 * 2**0.5)}
    assert (
        script.table_of([autocast])
        == "| mini | held out, autocast | 3.5000 (0.7071) | 3.8750 (0.5303) | +0.3750 (0.1768) |"
    )
    (alone, *_) = script.compared(runs[:2])
    assert alone["difference"]["spread"] is None


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


@pytest.mark.slow
def test_the_benchmark_of_gpus_runs(tmp_path):
    """On tiny models and the CPU, from a checkout that is not installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [
        sys.executable,
        ROOT / "benchmarks/gpu.py",
        "--tiny",
        "--minutes",
        "30",
        "--output",
        tmp_path / "results",
    ]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").iterdir()
    result = json.loads(path.read_text("utf-8"))
    assert path.name.startswith("gpu-tiny_")
    assert result["left_out"] == []
    assert [len(case["rows"]) for case in result["cases"].values()] == [len(result["switches"]) + 7, 2]
    for row in itertools.chain.from_iterable(case["rows"] for case in result["cases"].values()):
        assert row["errors"] == [], row["row"]
        assert row["row"] in done.stdout
        assert row["ms_per_step"] > 0
        assert row["tokens_per_second"] > 0
        if row["row"].startswith("ours"):
            assert row["bare"]["ms_per_step"] > 0
            assert row["values"].keys() - {"logging_steps", "full_determinism"} == set(result["switches"])
    assert {target["reached"] for target in result["targets"]} == {None}
    assert "64 x 512 packed: share of the matrix rate" in done.stdout


def test_the_benchmark_of_gpus_wants_a_gpu(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        benchmark("gpu").main()
    assert "received a machine without a CUDA GPU. Accepted: one with a GPU, or --tiny" in capsys.readouterr().err


def test_each_row_of_ours_turns_one_switch_on_a_gpu(benchmark):
    rows = benchmark("gpu_rows")
    for table in (rows.PARAGRAPHS, rows.PACKED):
        ours = [row for row in table if row.whose == "ours" and row.values.keys() <= set(rows.SWITCHES)]
        assert [sum(row.values.values()) for row in ours] == list(range(1, len(rows.SWITCHES) + 1))
        assert [name.split()[-1] for name in (row.name for row in ours)] == list(rows.SWITCHES)
        assert ours[-1] is rows.OURS
    assert not any(row.grouped for row in rows.PACKED)


def test_the_models_of_the_benchmark_have_their_published_sizes(benchmark):
    cases = benchmark("gpu_cases")
    with torch.device("meta"):
        for name, published in {"bert-base": 110e6, "ModernBERT-base": 149e6, "ModernBERT-large": 395e6}.items():
            model = benchmark("transformers").AutoModelForMaskedLM.from_config(cases._CONFIGS[name]())
            assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(published, rel=0.01)


def test_what_a_target_compares_comes_first(benchmark):
    gpu, cases, rows = (benchmark(name) for name in ("gpu", "gpu_cases", "gpu_rows"))
    planned = gpu.schedule(cases.CASES, cases.TARGETED)
    assert planned[:8] == [(case, row) for case in cases.TARGETED for row in (rows.PEER, rows.OURS)]
    # Everything once, and what a target compares once more.
    assert len(planned) == sum(len(gpu.rows_of_case(case)) for case in cases.CASES) + 8
    assert len(set(planned)) == len(planned) - 8
    assert {case for case, _ in planned[-5:]} <= set(cases.CASES) - set(cases.TARGETED)


@pytest.mark.parametrize("grouped", [False, True])
def test_every_row_gets_as_many_paragraphs_a_step(benchmark, grouped):
    cases = benchmark("gpu_cases")
    rows = [[101, *range(200, 200 + length), 102] for length in range(1, 60)]
    case = cases.Case("any", batch=4, window=5)
    batches = case.batches(rows, grouped, case.steps)
    assert len(batches) == case.steps
    assert {len(batch) for batch in batches} == {4}
    spread = [max(map(len, batch)) - min(map(len, batch)) for batch in batches]
    assert (max(spread) < 10) is grouped
    tokens = [sum(len(row) for batch in batches[at : at + 5] for row in batch) for at in range(0, case.steps, 5)]
    assert max(tokens) < 2 * min(tokens)  # each window has short and long batches
    packed = cases.Case("any", batch=4, packed=True, length=16).batches(rows, grouped, 30)
    assert {len(row) for batch in packed for row in batch} == {16}


def test_no_row_is_begun_that_would_end_too_late(benchmark, monkeypatch):
    gpu, cases, rows = (benchmark(name) for name in ("gpu", "gpu_cases", "gpu_rows"))
    case = cases.TARGETED[0]
    monkeypatch.setattr(gpu, "measure", lambda *_: pytest.fail("there is no time"))
    bench = gpu.Bench(torch.device("cpu"), minutes=(time.monotonic() - gpu.STARTED + 5) / 60)
    bench.add(case, rows.PEER)
    (left_out,) = bench.result()["left_out"]
    assert left_out["row"] == rows.PEER.name
    assert left_out["why"].endswith("it takes about 12")


def test_a_row_that_fails_or_does_not_end_leaves_the_others_alone(benchmark, monkeypatch):
    measuring, cpu = benchmark("gpu_measuring"), torch.device("cpu")
    precision = torch.backends.fp32_precision

    def fails(found):
        found["begun"] = True
        os.environ["ACCELERATE_DYNAMO_BACKEND"] = "INDUCTOR"
        torch.backends.fp32_precision = "ieee"
        raise RuntimeError("no kernel\nand a long explanation")

    found = measuring.guarded(fails, cpu, 60)
    assert found == {"said": [], "begun": True, "error": "RuntimeError no kernel"}
    assert "ACCELERATE_DYNAMO_BACKEND" not in os.environ
    assert torch.backends.fp32_precision == precision
    assert measuring.guarded(lambda _: time.sleep(60), cpu, 0.05)["error"].startswith("TookTooLong stopped after")


def test_calls_of_cuda_are_counted_by_their_names(benchmark):
    calls = benchmark("gpu_calls").calls_a_step(
        [
            ("cudaLaunchKernel", 40), ("cudaLaunchKernelExC_v11060", 8), ("cuLaunchKernel", 2), ("aten::mm", 90),
            ("cudaGraphLaunch_v10000", 6), ("cudaStreamSynchronize", 4), ("cudaDeviceSynchronize", 1),
            ("Memcpy DtoH (Device -> Pageable)", 2), ("Memcpy HtoD (Pinned -> Device)", 7),
        ],
        steps=2,
    )  # fmt: skip
    assert {name: calls[name] for name in calls if name != "calls"} == {
        "launches": 25, "graph_launches": 3, "waits": 2, "copies_to_host": 1,
    }  # fmt: skip
    assert "aten::mm" not in calls["calls"]


def test_a_wait_is_named_by_its_line(benchmark):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for message in ("called a synchronizing CUDA operation", "Synchronization debug mode is a prototype feature"):
            warnings.warn_explicit(message, UserWarning, "/x/site-packages/torch/nn.py", 7)
    assert benchmark("gpu_timing").places(caught) == {"torch/nn.py:7": 1}


def figures(seconds, tokens, bare_seconds=None, memory=4e9):
    """Of a row of one window of ten steps."""
    turn = {"steps": 10, "window_seconds": [seconds], "window_tokens": [tokens], "window_flops": [1e12 * tokens]}
    measured = turn | {
        "warm_up_steps": 5,
        "warm_up_seconds": 3 + seconds / 2,
        "peak_memory_bytes": memory,
        "waits": {"a:1": 2},
    }
    return [measured | ({"bare": turn | {"window_seconds": [bare_seconds]}} if bare_seconds else {})]


def test_a_table_says_what_falls_short(benchmark):
    tables, targets, rows = (benchmark(name) for name in ("gpu_tables", "gpu_targets", "gpu_rows"))
    measured = {
        rows.PEER.name: tables.figures_of(figures(1.0, 1000, 0.9), 4e15),
        "ours: slower": tables.figures_of(figures(0.9, 1000, 0.8), 4e15),
        "ours + faster": tables.figures_of(figures(0.5, 1000, 0.45, memory=2e9), 4e15),
        "ours + broken": tables.figures_of([{"error": "RuntimeError no kernel"}], 4e15),
    }
    shown = tables.table(measured, rows.PEER.name)
    assert "ours + broken failed: RuntimeError no kernel" in shown
    row = next(line for line in shown.splitlines() if line.startswith("ours + faster")).split()[3:]
    assert row == ["50.0", "2,000", "50.0%", "2.00", "2.00", "2.00", "0.50", "2", "3", "45.0", "2.00", "+11.1%"]
    assert tables.best(measured, "ours", bare=True)[0] == "ours + faster"
    packed = benchmark("gpu_cases").TARGETED[0].name
    found = {target["what"]: target for target in targets.verdicts({packed: measured}) if target["case"] == packed}
    assert {what: (target["measured"], target["reached"]) for what, target in found.items()} == {
        "share of the matrix rate": ("55.6%", True),
        "times the stock model's speed, bare loops": ("2.00", True),
        "MLMTrainer over a bare loop": ("+11.1%", False),
        "peak memory relative to the stock model": ("0.50", True),
    }
    said = targets.target_table(targets.verdicts({packed: measured}))
    assert (
        f"Falls short: {packed}: MLMTrainer over a bare loop is +11.1%, and <= +3.0% is wanted (ours + faster)." in said
    )
    assert "ModernBERT-base, 64 x 512 packed: share of the matrix rate" in said
    assert "not measured" in said
    del measured[rows.PEER.name]  # it failed
    assert targets.verdicts({packed: measured})[1]["reached"] is None


def test_weights_are_pulled_by_the_learning_rate_and_their_importance(benchmark):
    model = torch.nn.Linear(2, 1)
    torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
    pulls = benchmark("forgetting").Pull(model, 3.0, {"weight": torch.tensor([[1.0, 100.0]])})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        model.weight.fill_(1.0), model.bias.fill_(1.0)
    pulls.on_optimizer_step(None, None, None, optimizer=optimizer)
    # 1 - 0.1 * 3 * 1; by no more than the whole way; without an importance, 1.
    assert torch.allclose(model.weight, torch.tensor([[0.7, 0.0]]))
    assert torch.allclose(model.bias, torch.tensor([0.7]))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_half_that_is_measured_is_not_trained_on(benchmark, tmp_path, seed):
    files = benchmark("forgetting").halves("general-english", seed, tmp_path)
    measured, rest = ({json.loads(line)["text"] for line in file.read_text("utf-8").splitlines()} for file in files)
    assert len(measured) == len(rest) == 30
    assert not measured & rest


def test_the_mean_of_a_method_against_forgetting_is_over_its_seeds(benchmark):
    rows = [
        {"text": "a", "method": method, "gain": {"loss": gain}, "forgot": {"change": -gain}}
        for method, gain in (("plain", 1.0), ("mix", 5.0), ("plain", 2.0))
    ]
    assert benchmark("forgetting").means(rows) == [
        {"text": "a", "method": "plain", "seeds": 2, "gain": 1.5, "forgot": -1.5},
        {"text": "a", "method": "mix", "seeds": 1, "gain": 5.0, "forgot": -5.0},
    ]


@pytest.mark.slow
def test_methods_against_forgetting_take_the_steps_they_say(benchmark, tmp_path, monkeypatch, short_text):
    """With the same measurement before; the mixture has more steps where it reads the same text."""
    arguments = ["--text", str(short_text), "--steps", "6", "--seeds", "1", "--output", str(tmp_path)]
    for method in ("plain", "mix 0.2", "l2 1000000", "ewc 3"):
        arguments += ["--method", method]
    monkeypatch.setattr(sys, "argv", ["forgetting.py", *arguments])
    monkeypatch.chdir(tmp_path)
    benchmark("forgetting").main()
    (path,) = tmp_path.glob("*.json")
    rows = {row["method"]: row for row in json.loads(path.read_text("utf-8"))["rows"]}
    assert list(rows) == ["plain", "mix 0.2, same steps", "mix 0.2, same text", "l2 1000000", "ewc 3"]
    assert len({row["forgot"]["before"] for row in rows.values()}) == 1
    assert rows["l2 1000000"]["gain"]["loss"] == pytest.approx(0, abs=1e-6), "the pull is the whole way"
    assert len({row["gain"]["loss"] for row in rows.values()}) == 5
    same_text = rows.pop("mix 0.2, same text")
    assert {row["steps"] for row in rows.values()} == {6}
    assert same_text["steps"] > 6
    assert same_text["mixed"][0]["name"] == "rest"
    assert all(row["general_paragraphs"] == 30 for row in rows.values())


def scale_row(processes=1, accumulation=1, **changes):
    marks = {"imported": 5.0, "read": 6.0, "tokenized": 7.0, "first step": 8.0}
    return {
        "processes": processes, "accumulation": accumulation, "batch": 16 // processes // accumulation,
        "paragraphs": 512, "marks": marks, "again": marks | {"first step": 7.0}, "processor_seconds_per_step": 0.12,
        "peak_bytes": [400e6, 390e6], "losses": [7.5, 7.25],
    } | changes  # fmt: skip


def test_what_scales_is_shown_as_tables_and_as_a_plot(benchmark, tmp_path):
    layouts = [scale_row(), scale_row(processes=2, losses=[7.5, 7.25 + 1e-6])]
    result = {"layouts": layouts, "corpora": [scale_row(), scale_row(paragraphs=5120)]}
    tables = benchmark("scale").tables_of(result)
    assert "| 1 | 1 | 16 | 120 | 0.0e+00 |\n| 2 | 1 | 8 | 120 | 1.0e-06 |" in tables
    assert "| 5,120 | 8 s | 7 s | 400 MB |" in tables
    for name in ("one.svg", "two.svg"):
        benchmark("scale_plot").draw(result, tmp_path / "new" / name)
    drawn = [(tmp_path / "new" / name).read_bytes() for name in ("one.svg", "two.svg")]
    assert drawn[0] == drawn[1]
    assert b"<svg" in drawn[0]


def test_a_larger_text_repeats_no_paragraph(benchmark, tmp_path):
    small = tmp_path / "small.txt"
    small.write_text("one two three four five\n\nsix seven eight nine ten\n")
    lines = benchmark("scale").larger_text(small, 3, tmp_path / "large.txt").read_text().splitlines()
    assert lines[:2] == ["one two three four five", "six seven eight nine ten"]
    assert len(set(lines)) == 6
    assert all(sorted(line.split()) in (sorted(lines[0].split()), sorted(lines[1].split())) for line in lines)


@pytest.mark.slow
def test_two_processes_and_accumulation_scale_with_the_losses_of_one(benchmark, tmp_path):
    scale = benchmark("scale")
    text = scale.larger_text(scale.TEXT, 1, tmp_path / "text.txt")
    rows = [scale.measure(text, *layout, 3, tmp_path / "cache") for layout in ((1, 1), (2, 1), (1, 4))]
    assert [row["batch"] for row in rows] == [16, 8, 4]
    assert max(scale.furthest(rows)) < 1e-5
    assert rows[0]["tokens_per_step"] == rows[1]["tokens_per_step"] == rows[2]["tokens_per_step"]
    assert len(rows[1]["peak_bytes"]) == 2


def newest_encoders():
    return json.loads(max((ROOT / "benchmarks" / "results").glob("encoders_*.json")).read_text("utf-8"))


def test_the_page_of_encoders_shows_what_was_measured(benchmark):
    measured = newest_encoders()
    page = (ROOT / "docs" / "encoders.md").read_text("utf-8")
    assert page.endswith(benchmark("encoders").table(measured["rows"]) + "\n")
    assert f"transformers {measured['versions']['transformers']} and torch" in page
    assert len(measured["rows"]) > 50
    assert all(
        set(row) in ({"built"}, {"trains"}, set(benchmark("encoder_checks").CHECKS))
        for row in measured["rows"].values()
    )


@pytest.fixture
def policies(benchmark, tmp_path, monkeypatch):
    """benchmarks/policies.py without training: what the methods cost and reach is given, and which run is recorded."""
    policies = benchmark("policies")
    seconds = {"quickstart": 1.0, "token 15%": 0.5}
    nats = {"quickstart": 3.0, "token 15%": 2.5}

    def measure(recipe, values, seed, steps, pace):
        (name,) = (name for name in nats if policies.ADAPTING[name].items() <= values.items() and name in policies.now)
        policies.ran.append((name, seed, steps))
        sums = [[tokens * nats[name] + tokens * seed, 1.0, 1.0, tokens] for tokens in range(10, 30)]
        total = {"loss": nats[name] + seed, "accuracy": 0.1, "pseudo_perplexity": 9.0, "tokens_per_second": 1000.0}
        return {"steps": steps, "seconds": 1.0, **total, "forgotten": 0.01, "sums": sums}

    def compare(*arguments):
        policies.ran, policies.now = [], [arguments[i + 1] for i, word in enumerate(arguments) if word == "--only"]
        monkeypatch.setattr(sys, "argv", ["policies.py", "adapt", "--output", str(tmp_path), *arguments])
        policies.main()
        return policies.ran

    monkeypatch.setattr(policies, "measure", measure)
    monkeypatch.setattr(
        policies, "seconds_a_step", lambda recipe, methods, turns: {name: seconds[name] for name in methods}
    )
    policies.compare = compare
    return policies


ONE, OTHER = ("--only", "quickstart"), ("--only", "token 15%")


def test_methods_are_compared_in_equal_time_and_runs_are_kept(policies, tmp_path, capsys):
    text = ("--text", "a.txt", "--seeds", "2")
    assert policies.compare(*text, *ONE) == [("quickstart", 0, 60), ("quickstart", 1, 60)]
    assert policies.compare(*text, *OTHER) == [("token 15%", 0, 120), ("token 15%", 1, 120)]
    assert policies.compare(*text, *OTHER) == []
    (path,) = tmp_path.glob("policies-adapt_*.json")
    found = json.loads(path.read_text("utf-8"))
    assert [(row["method"], row["seed"]) for row in found["rows"]] == [
        ("quickstart", 0), ("quickstart", 1), ("token 15%", 0), ("token 15%", 1),
    ]  # fmt: skip
    assert not any("sums" in row for row in found["rows"])
    plain, other = found["table"]
    assert (plain["better_by"], plain["loss"], other["loss"]) == (0, 3.5, 3.0)
    assert other["better_by"] == pytest.approx(0.5)
    assert other["low"] == pytest.approx(other["high"]) == pytest.approx(0.5)  # of every paragraph and seed
    assert other["of_each_seed"] == [0.5, 0.5]
    assert capsys.readouterr().out.endswith(policies.markdown(found["table"]) + "\n")


def test_runs_of_another_length_are_not_mixed_with_those_that_are_kept(policies, capsys):
    policies.compare("--text", "a.txt", "--seeds", "1", *ONE)
    with pytest.raises(SystemExit) as ended:
        policies.compare("--text", "a.txt", "--seeds", "1", "--minutes", "2", *ONE)
    assert ended.value.code == 2
    assert "has runs of 1 minutes" in capsys.readouterr().err


def test_several_texts_are_columns(policies):
    rows = [
        {"text": text, "method": method, "better_by": better, "low": better - low, "high": better + low, "loss": 3.0,
         "forgotten": 0.02, "seeds": seeds}
        for text, method, better, low, seeds in
        [("a", "plain", 0.0, 0.0, 3), ("b", "plain", 0.0, 0.0, 3), ("b", "other", -0.25, 0.5, 1)]
    ]  # fmt: skip
    assert policies.markdown(rows).splitlines() == [
        "| better by | a | b | seeds |",
        "|---|---|---|---|",
        "| plain | loss 3.000 | loss 3.000 | 3 |",
        "| other |  | -0.250 (-0.750 to +0.250) | 1 |",
        "",
        "| general English | a | b | seeds |",
        "|---|---|---|---|",
        "| plain | +0.020 | +0.020 | 3 |",
        "| other |  | +0.020 | 1 |",
    ]


def test_a_reason_is_listed_once_for_all_encoders_that_share_it(benchmark):
    rows = {
        "a": {"trains": "yes", "padding_free": "no: AForMaskedLM has its own attention"},
        "b": {
            "trains": "yes: but slowly",
            "padding_free": "no: BLMHeadModel has its own attention. Accepted: another.",
        },
        "c": {"built": "no: it is not there"},
    }
    assert benchmark("encoders").table(rows).splitlines()[2:] == [
        "| a | yes | no |  |  |  |  |  |",
        "| b | yes | no |  |  |  |  |  |",
        "| c | no | no | no | no | no | no | no |",
        "",
        "- padding_free: this model has its own attention (a, b)",
        "- trains: but slowly (b)",
        "- trains: it is not there (c)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bert", "deberta-v2", "modernbert", "xlm-roberta"])
def test_the_encoders_that_most_people_train_are_as_the_page_says(model_type, benchmark):
    assert benchmark("encoders").ask(model_type) == newest_encoders()["rows"][model_type]
