"""What the documents say runs, and what they name is there."""

from __future__ import annotations

import doctest
import importlib.util
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from mlm_recipes import cli, train
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.recipes.cluster.cluster_request import ClusterRequest
from mlm_recipes.training.config import field_names

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/**/*.md")])
README = (ROOT / "README.md").read_text("utf-8")
RESULTS = (ROOT / "docs/results.md").read_text("utf-8")
CARDS = sorted(ROOT.glob("mlm_recipes/bundled/models/*/README.md"))
LINK = r"""(?:\]\(|(?:src|srcset)=")(?!https?:)([^)"#\s]*)(?:#([^)"\s]+))?[)"]"""


def anchors(text: str) -> list[str]:
    """What GitHub calls the headings of a document in addresses."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), flags=re.MULTILINE
    )
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks(README, "sh") for line in block.splitlines()]


def test_there_is_something_to_check():
    assert len(DOCUMENTS) >= 7
    assert len(COMMANDS) >= 13
    assert {command.split()[0] for command in COMMANDS} == {"make", "mlm-recipes", "accelerate", "torchrun"}


@pytest.mark.parametrize("path", [*DOCUMENTS, *CARDS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_every_file_named_is_there(path):
    text = path.read_text("utf-8")
    for target, anchor in re.findall(LINK, text):
        file = path.parent / target if target else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text("utf-8")), f"{target}#{anchor}"
    for name in re.findall(r"(?<![\w/.])((?:recipes|docs|tests|mlm_recipes)/[\w/.-]+\.(?:py|md|yaml|txt))", text):
        if not re.search(r"[A-Z]{4}", name):  # recipes/NAME.yaml stands for any
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_flag_and_target_named_is_there(path):
    text = path.read_text("utf-8")
    launchers = {"nproc_per_node", "config_file", "cpu", "num_processes", "max-restarts", "signals-to-handle"}
    launchers |= {"nnodes", "rdzv_backend", "rdzv_endpoint", "rdzv_id", "rdzv_conf"}
    launchers |= {"signal", "requeue"}  # SLURM's
    launchers |= {"logdir", "float32", "minutes"}  # TensorBoard's; benchmarks/step.py's; benchmarks/gpu.py's
    launchers |= {"machine_rank"}  # accelerate's
    launchers |= {"rm", "build-arg"}  # docker's
    launchers |= {"mixed_precision", "dynamo_backend", "use_fsdp", "fsdp_version"}  # accelerate's
    launchers.add("fsdp_reshard_after_forward")
    known = {*field_names(), *launchers, "help", "top_k", "no_timing", "output", "recipe", "traceback"}
    known |= {"add", "at_least"}  # of `vocab`
    known |= {"to", "quantize"}  # of `export`
    known |= {"out", "shard", "shard_characters"}  # of `prepare`
    known |= {item.name for item in fields(ClusterRequest)} | {"json"}  # of `plan`
    known |= {"text", "into", "general"}  # of benchmarks/natural_labels.py, task_gain.py and forgetting.py
    known |= {"on", "against", "seeds", "batch_size", "label_column"}  # of `finetune`
    for flag in re.findall(r"(?<![\w-])--([a-z][\w-]*)", text):
        assert flag in known, flag
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_a_link_to_a_heading_that_is_not_there_would_be_found():
    assert anchors("# Where it runs\n```sh\n# not this\n```\n## `before`, and `after`") == [
        "where-it-runs",
        "before-and-after",
    ]
    found = re.findall(LINK, '[a](docs/x.md#one) [b](#two) [c](https://example.org#three) <img src="d.png" alt="e">')
    assert found == [("docs/x.md", "one"), ("", "two"), ("d.png", "")]


def test_the_sites_navigation_is_the_reading_order_and_lists_every_page_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    listed = [entry if isinstance(entry, str) else next(iter(entry.values())) for entry in nav]
    assert sorted(listed) == sorted(path.name for path in ROOT.glob("docs/*.md"))
    index = (ROOT / "docs/index.md").read_text("utf-8")
    numbered = re.findall(r"^(\d+)\. \[[^]]+\]\(([\w-]+\.md)\): ", index, flags=re.MULTILINE)
    assert [f"{number} {name}" for number, name in enumerate(listed[1:], start=1)] == [
        " ".join(row) for row in numbered
    ]


def test_the_sites_pages_link_to_each_other_as_the_repositorys_files_do():
    """`make docs` checks the links of the whole site; here: the hook that makes them, without mkdocs."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/site_pages.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    assert doctest.testmod(hook) == (0, 2)
    text, outside = hook.rewrite((ROOT / "docs/index.md").read_text("utf-8"), "docs/index.md")
    assert outside == {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md"}
    assert "](repository/recipes/README.md)" in text
    assert hook.rewrite("```\n[a](../README.md)\n```", "docs/index.md") == ("```\n[a](../README.md)\n```", set())
    assert hook.content("README.md")[0].count('="../images/report-') == 2


def test_the_table_of_modules_is_complete():
    named = set(re.findall(r"^\| \[mlm_recipes/(\w+)\.py\]", README, flags=re.MULTILINE))
    modules = {path.stem for path in (ROOT / "mlm_recipes").glob("*.py")} - {"__init__", "__main__"}
    assert named == modules


def test_the_table_of_parity_is_what_was_measured():
    page = (ROOT / "docs/reproducibility.md").read_text("utf-8")
    measured = json.loads(sorted(ROOT.glob("benchmarks/results/parity_*.json"))[-1].read_text("utf-8"))["rows"]

    def shown(value):
        return value if isinstance(value, str) else f"{value:.3g}"

    rows = {f"| {r['property']} | {r['unit']} | {shown(r['stock'])} | {shown(r['ours'])} |" for r in measured}
    table = page.split("<!-- parity")[1].split("|---|---|---|---|\n")[1].split("\n\n")[0].splitlines()
    assert len(table) >= 20
    assert set(table) <= rows
    for name in ("resumed after", "evaluated after every step", "two processes: examples"):
        assert any(f"| {name}" in row and row.endswith("| 0 |") for row in table), name


def test_the_table_of_torture_is_what_was_found():
    page = (ROOT / "docs/interruptions.md").read_text("utf-8")
    found = json.loads(sorted(ROOT.glob("benchmarks/results/torture_*.json"))[-1].read_text("utf-8"))
    checks = {name: value for name, value in found.items() if isinstance(value, dict) and "tried" in value}
    assert len(checks) >= 8
    rows = [
        f"| `{name}` | {value.get('kills', '')} | {value['tried']} | {len(value['wrong'])} |"
        for name, value in checks.items()
    ]
    assert "\n".join(rows) in page, "docs/interruptions.md should have:\n" + "\n".join(rows)


def test_the_tables_of_speed_are_what_was_measured(benchmark):
    table_of = benchmark("step").table_of
    page = (ROOT / "docs/speed.md").read_text("utf-8")
    # The newest of each machine: what stands before the date.
    newest = {path.stem.rpartition("_")[0]: path for path in sorted(ROOT.glob("benchmarks/results/step_*.json"))}
    assert "step_x86_64-2cores" in newest
    for machine, path in newest.items():
        assert f"<!-- speed: rows of benchmarks/results/{machine}_*.json -->" in page
        part = page.split(f"<!-- speed: rows of benchmarks/results/{machine}_*.json -->")[1].split("<!-- speed")[0]
        for size, figures in json.loads(path.read_text("utf-8"))["sizes"].items():
            rows = table_of(figures)
            assert rows in part, f"docs/speed.md should have, for {size} of {path.name}:\n{rows}"


@pytest.mark.parametrize(
    ("name", "table_of", "measured", "page"),
    [
        ("bf16_residual", "bf16_residual.table_of", "summary", "docs/speed.md"),
        ("forgetting", "forgetting.markdown", "means", "docs/forgetting.md"),
        ("policies-pretrain", "policies.markdown", "table", "docs/LOG.md"),
        ("policies-adapt", "policies.markdown", "table", "docs/LOG.md"),
    ],
)
def test_the_table_of_a_benchmark_is_what_was_measured(benchmark, name, table_of, measured, page):
    script, function = table_of.split(".")
    newest = sorted(ROOT.glob(f"benchmarks/results/{name}_*.json"))[-1]
    table = getattr(benchmark(script), function)(json.loads(newest.read_text("utf-8"))[measured])
    text = (ROOT / page).read_text("utf-8")
    assert table in text, f"{page} should have, of {newest.name}:\n{table}"
    assert newest.name in text


def test_the_tables_of_scaling_are_what_was_measured(benchmark):
    tables_of = benchmark("scale").tables_of
    newest = sorted(ROOT.glob("benchmarks/results/scale_*.json"))[-1]
    tables = tables_of(json.loads(newest.read_text("utf-8")))
    page = (ROOT / "docs/many-machines.md").read_text("utf-8")
    for table in tables.split("\n\n"):
        assert table in page, f"docs/many-machines.md should have, of {newest.name}:\n{table}"


@pytest.mark.parametrize(("name", "script"), [("equality", "equality"), ("story", "long_story")])
def test_the_runs_on_several_hosts_are_what_was_found(benchmark, name, script):
    shown = benchmark(script).shown
    newest = sorted(ROOT.glob(f"benchmarks/results/{name}_*.json"))[-1]
    found = shown(json.loads(newest.read_text("utf-8")))
    page = (ROOT / "docs/many-machines.md").read_text("utf-8")
    words = " ".join(page.split())  # however the page breaks its lines
    for line in found.splitlines():
        assert " ".join(line.split()) in words, f"docs/many-machines.md should have, of {newest.name}:\n{line}"
    assert newest.name in page


def test_the_figures_of_text_are_what_was_measured():
    page = (ROOT / "docs/text.md").read_text("utf-8")
    measured = json.loads(sorted(ROOT.glob("benchmarks/results/data_*.json"))[-1].read_text("utf-8"))
    rows = [
        f"| {row['row']} | {row['tokens_per_second']:,.0f} | {row['times_peer_at_best']:.1f} |"
        for row in measured["pipeline"]
    ]
    rows += [f"| {row['row']} | {row['seconds']:.1f} | {row['share_of_peer']:.2f} |" for row in measured["first_step"]]
    rows += [
        f"| {row['row']} | {row['anonymous'] / 1e6:,.0f} | {row['anonymous_to_1x']:.2f} | {row['resident_to_1x']:.2f} |"
        for row in measured["memory"]
    ]
    for row in rows:
        assert row in page, row


#: What docs/results.md calls the texts of benchmarks/adaptation.py.
TEXTS = {"WikiText-2": "wikitext2", "the licences": "licences", "the manual": "debian-policy"}
MINUTE = {"the bundled rendering": "meditations", "George Long's translation": "meditations_long"}
#: A minute on each kind of machine, the newest that was measured; with bf16 also other texts, and random weights.
WITH_BF16, WITHOUT = (
    sorted(ROOT.glob(f"benchmarks/results/adaptation_x86_64-{kind}_*.json"))[-1] for kind in ("2cores", "avx2-2cores")
)


def adapted(model, *texts, path=WITH_BF16):
    """The rows of adaptation on these texts, with `general-english` beside them, by text and seed."""
    rows = json.loads(path.read_text("utf-8"))["rows"]
    mine = [row for row in rows if row["model"] == model and row["text"] in texts]
    return {(r["text"], r["seed"]): r for r in mine if r["general"].get("text", "general-english") == "general-english"}


@pytest.mark.parametrize("words", MINUTE)
def test_the_gain_of_a_minute_on_each_kind_of_machine_is_what_was_measured(words):
    cells = []
    for path in (WITH_BF16, WITHOUT):
        rows = list(adapted("mini", MINUTE[words], path=path).values())
        assert len(rows) == 3
        gains = [row["gain"] for row in rows]
        steps = " ".join(str(row["steps"]) for row in rows)
        cells.append(
            f"{statistics.mean(gain['loss'] for gain in gains):.2f} "
            f"({min(gain['low'] for gain in gains):.2f} to {max(gain['high'] for gain in gains):.2f}); {steps}"
        )
        assert path.name in RESULTS
    row = f"| {words} | {' | '.join(cells)} |"
    assert row in RESULTS, f"docs/results.md should have:\n{row}"


@pytest.mark.parametrize("words", TEXTS)
def test_what_a_minute_gains_is_what_was_measured(words):
    gains = [row["gain"] for row in adapted("mini", TEXTS[words]).values()]
    if all(gain["low"] > 0 for gain in gains):
        says = rf"{statistics.mean(gain['loss'] for gain in gains):.1f}( nats)? for {words}"
    else:
        says = f"for {words} nothing that could be told from chance"
    assert re.search(says, " ".join(RESULTS.split())), f"docs/results.md should say: {says}"


def test_how_far_random_weights_get_in_that_minute_is_what_was_measured():
    texts = ("meditations", "meditations_long")
    ours, theirs = adapted("mini", *texts), adapted("mini-random", *texts)
    above = statistics.mean(row["after"]["loss"] - ours[key]["after"]["loss"] for key, row in theirs.items())
    assert f"ends {above:.0f} nats above" in " ".join(RESULTS.split())


def test_the_last_screen_shown_is_that_of_the_quickstart():
    """Of a run by itself, whose last digits may differ from the benchmark's; recipes/README.md has the same run."""
    screen = README.split("<!-- quickstart")[1].split("```")[1]
    figures = r"loss \(nats\) +(\S+) +(\S+) +(\S+) +\S+ to \S+ +(\S+)"
    before, after, change, words = re.search(figures, screen).groups()
    steps, seconds = re.search(r"(\d+) steps in (\d+) s", screen).groups()
    assert int(steps) == read_config("quickstart").max_steps
    assert float(after) - float(before) == pytest.approx(float(change), abs=1.1e-3)
    measured = adapted("mini", "meditations")["meditations", 0]
    # There the text is masked once, here five times: a standard error of the loss of one draw is 0.08.
    assert float(before) == pytest.approx(measured["before"]["loss"], abs=0.1)
    assert float(after) == pytest.approx(measured["after"]["loss"], abs=0.1)
    (row,) = re.findall(r"^\| \[quickstart\].*$", (ROOT / "recipes/README.md").read_text("utf-8"), flags=re.MULTILINE)
    loss = f"{float(before):.2f} -> {float(after):.2f} (word frequencies alone: {float(words):.2f})"
    assert f"| {seconds} s of training, a minute in all | {loss} |" in row


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("docs/tutorial.md", "docs/masking.md", "docs/reproducibility.md", "docs/evaluations.md", "docs/adapting.md"),
        *("docs/forgetting.md", "docs/vocabulary.md"),
    ],
)
def test_the_blocks_of_a_page_run_in_order(name, capsys):
    code = "\n".join(blocks((ROOT / name).read_text("utf-8"), "python"))
    space: dict[str, object] = {}
    exec(compile(code, name, "exec"), space)
    if name == "docs/tutorial.md":
        printed = capsys.readouterr().out.splitlines()
        assert printed[1] == "101 102 103 0"
        assert printed[2] == "torch.Size([32, 128])"
        before, after = map(float, next(line for line in printed if " -> " in line).split(" -> "))
        assert after < before


@pytest.fixture(scope="module")
def finished(tmp_path_factory, short_text):
    """A folder that holds runs/meditations."""
    folder = tmp_path_factory.mktemp("next-steps")
    shorter = {"max_steps": 1, "max_length": 32, "per_device_train_batch_size": 2, "general_corpus": "none"}
    train("quickstart", corpus=str(short_text), output_dir=str(folder / "runs/meditations"), **shorter)
    return folder


NEXT_STEPS = blocks((ROOT / "docs/next-steps.md").read_text("utf-8"), "python")


@pytest.mark.slow
@pytest.mark.parametrize("code", NEXT_STEPS, ids=["fill", "features", "classifier", "sentences"])
def test_the_next_steps_run_on_a_run_folder(code, finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    if "sentence_transformers" in code and importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed; `make test-next-steps` installs it")
    exec(compile(code, "docs/next-steps.md", "exec"), {})
    assert capsys.readouterr().out


def test_each_next_step_takes_ten_lines():
    for code in NEXT_STEPS:
        assert len([line for line in code.splitlines() if line and not line.startswith(("#", "import", "from"))]) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_the_readmes_python_runs(number, capsys):
    code = blocks(README, "python")[number]
    assert code.count("max_steps=10") == 1
    shorter = code.replace("max_steps=10", "max_steps=2, max_length=32, per_device_train_batch_size=2")
    exec(compile(shorter, "README.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.fixture(scope="module")
def place(tmp_path_factory, short_text):
    """A folder in which the README's commands find what they name, one after the other."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(short_text, folder / "notes.txt")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    return folder


SHORTER = ["--max_steps", "2", "--max_length", "16", "--vocab_size", "500", "--per_device_train_batch_size", "2"]
SHORTER += ["--max_eval_samples", "12"]


# `verify` with the quickstart and a small model is in test_verification.py; here it has `mini`, and a process to kill.
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[] if command.split()[1] in ("corpora", "models") else [pytest.mark.slow])
        for command in COMMANDS
        if command.startswith("mlm-recipes")
    ],
)
def test_the_readmes_commands_run(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    arguments = shlex.split(command)[1:]
    if "--resume_from_checkpoint" in arguments:
        (Path(arguments[1]) / "metrics.json").unlink()  # as if it had been interrupted
    if arguments[0] == "compare":
        shutil.copytree(arguments[1], arguments[2])  # a second run
    more = {"train": SHORTER, "inspect": SHORTER[-4:-2]}.get(arguments[0], [])
    assert cli.main(arguments + more) == 0
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make train")])
def test_the_readmes_make_commands_run_the_command_line(command, place, checkpoint, monkeypatch, capsys):
    """make itself says what it would run; that runs, with a small checkpoint in bert-base-uncased's place."""
    venv = place / "venv"  # a stand-in that counts as installed, so that make has nothing to install
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    for name in ("bin/python", "ready", "ready-dev"):
        (venv / name).touch()
    made = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), f"VENV={venv}", *shlex.split(command)[1:]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = made.stdout.splitlines()
    program, *arguments = shlex.split(line)
    assert program == f"{venv}/bin/mlm-recipes"
    monkeypatch.chdir(place)
    arguments = [str(checkpoint) if part == "google-bert/bert-base-uncased" else part for part in arguments]
    assert cli.main(arguments + SHORTER) == 0
    assert "held-out text" in capsys.readouterr().out


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(("accelerate", "torchrun"))])
def test_the_readmes_launchers_exist_and_run_this_module(command):
    """test_cli.py runs accelerate with and without that config file, and torchrun; here: the words are theirs."""
    program, *arguments = shlex.split(command)
    assert Path(sys.executable).with_name(program).exists()
    assert arguments[arguments.index("-m") + 1 :][:3] == ["mlm_recipes", "train", "recipes/quickstart.yaml"]
