"""Models and data sets by id: the real clients, in separate processes, against a local hub."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from conftest import make_bert
from hub_server import Hub
from safetensors.torch import load_file

#: Each of several processes imports all that a run needs; the tests of one module share them.
pytestmark = pytest.mark.slow

ANSWER = """
import json, logging, sys
logging.basicConfig(level=logging.WARNING, format="%(message)s")
from mlm_recipes.sources import hub
from mlm_recipes.sources.hub import fetch_model, fetch_tokenizer
from mlm_recipes.data.tokenizer import find_tokenizer
from mlm_recipes.sources.hub_datasets import load_splits
from mlm_recipes.data.paragraphs import stream_paragraphs
from mlm_recipes.data.corpus_name import Version, resolve
def twice(name, **version):
    source = resolve(name, version=Version(**version), for_streaming=True)
    read = stream_paragraphs(source)
    return [source.source, list(read()), list(read())]
def texts(*arguments, **more):
    return {split: [row["text"] for row in rows] for split, rows in load_splits(*arguments, **more).items()}
for line in sys.stdin:
    try: answer = eval(line)
    except ValueError as error: answer = f"{type(error).__name__}: {error}"
    print(json.dumps(answer, default=str), flush=True)
"""


class Client:
    """A process that runs the hub's clients and evaluates one expression after another."""

    def __init__(self, environment, **more):
        self.errors = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115
        self.written = open(self.errors.name, encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-c", ANSWER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment | {"HF_HUB_DISABLE_TELEMETRY": "1"} | more,
        )

    def __call__(self, expression):
        print(expression, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, self.said()  # a traceback
        return json.loads(answer)

    def said(self):
        """Return what the process has written to standard error since the last call."""
        return self.written.read()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.communicate(timeout=30)
        self.written.close()
        self.errors.close()


def parquet(*texts):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": list(texts)}), file)
    return file.getvalue()


def jsonl(*texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def card(**configurations):
    """A data set's card: its configurations, and the files of each split."""
    configs = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        for name, splits in configurations.items()
    ]
    return f"---\nconfigs: {json.dumps(configs)}\n---\n# Texts\n".encode()


SPLITS = ("train", "validation", "test")
TWO = card(
    plain={split: f"plain/{split}-*.parquet" for split in SPLITS},
    other={split: f"other/{split}.parquet" for split in SPLITS},
)


def two_configurations(word):
    files = {"README.md": TWO}
    for split in SPLITS:
        files[f"plain/{split}-0.parquet"] = parquet(f"{word} {split}")
        files[f"other/{split}.parquet"] = parquet(f"other {word} {split}")
    return files


@pytest.fixture(scope="module")
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def elsewhere():
    """A proxy for everything that is not on this machine."""
    with Hub() as elsewhere:
        yield elsewhere


@pytest.fixture(autouse=True)
def _nothing_past_the_hub(hub, elsewhere):
    hub.mend()
    hub.forget()
    yield
    assert not elsewhere.asked


@pytest.fixture(scope="module")
def environment(hub, elsewhere):
    """Return the environment of a process whose cache is in a folder."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    proxies = {"HTTPS_PROXY": elsewhere.url, "HTTP_PROXY": elsewhere.url, "NO_PROXY": "127.0.0.1"}
    settings = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return lambda home: clean | proxies | settings | {"HF_HOME": str(home)}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(environment, home):
    """One process for many tests, each with its own repository."""
    with Client(environment(home)) as client:
        yield client


@pytest.fixture(scope="module")
def again(environment, home):
    """Another process with the same cache, which has fetched nothing yet."""
    with Client(environment(home)) as again:
        yield again


@pytest.fixture(scope="module")
def offline(environment, home):
    with Client(environment(home), HF_HUB_OFFLINE="1") as offline:
        yield offline


@pytest.fixture(scope="module")
def cut_off(environment, home):
    """A process that may contact the hub but gets no answer."""
    with Client(environment(home), HF_ENDPOINT="http://127.0.0.1:9") as cut_off:
        yield cut_off


@pytest.fixture(scope="module")
def files(checkpoint):
    """The files of a tiny BERT and its tokenizer."""
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()} | {
        "README.md": b"# Tiny\n",
        "pytorch_model.bin": b"a pickle, and there are safetensors",
    }


@pytest.fixture(scope="module")
def other_weights(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    make_bert(tokenizer, initializer_range=0.5).save_pretrained(folder)
    return (folder / "model.safetensors").read_bytes()


# Models


def test_a_model_is_fetched_once_pinned_to_a_commit_and_used_offline(
    hub, client, again, offline, cut_off, files, other_weights
):
    old = hub.commit("model", "someone/tiny", files)
    new = hub.commit("model", "someone/tiny", files | {"model.safetensors": other_weights})
    hub.repositories["model", "someone/tiny"].refs["v1"] = old
    folder = client("fetch_model('someone/tiny')")
    assert folder.endswith(new)
    assert sorted(os.listdir(folder)) == sorted(files.keys() - {"README.md", "pytorch_model.bin"})
    assert set(hub.fetched.values()) == {1}
    assert client("fetch_model('someone/tiny', 'v1')").endswith(old)
    assert client(f"fetch_model('someone/tiny', {old[:8]!r})").endswith(old)
    assert hub.fetched["config.json"] == 1  # the same in both commits
    assert hub.fetched["model.safetensors"] == 2
    hub.forget()
    assert again("fetch_model('someone/tiny')") == folder
    assert hub.asked == ["GET /api/models/someone/tiny/revision/main"]
    hub.forget()
    assert offline("fetch_model('someone/tiny')") == folder
    for revision in ("v1", old, old[:8]):
        assert offline(f"fetch_model('someone/tiny', {revision!r})").endswith(old)
    assert "HubUnreachableError" in offline("fetch_model('someone/tiny', 'v2')")
    assert not hub.asked
    assert not offline.said()
    assert cut_off("fetch_model('someone/tiny')") == folder
    assert "hub cannot be reached; using the cached files (revision main, commit" in cut_off.said()
    pinned = load_file(f"{os.path.dirname(folder)}/{old}/model.safetensors")["bert.embeddings.word_embeddings.weight"]
    newest = load_file(f"{folder}/model.safetensors")["bert.embeddings.word_embeddings.weight"]
    assert not torch.equal(pinned, newest)


def test_a_tokenizer_is_fetched_without_weights_and_is_not_taken_for_a_model(hub, client, offline, files):
    commit = hub.commit("model", "someone/words", files)
    folder = client("fetch_tokenizer('someone/words')")
    assert folder.endswith(commit)
    wanted = files.keys() - {"README.md", "pytorch_model.bin", "model.safetensors"}
    assert sorted(os.listdir(folder)) == sorted(wanted)
    assert offline("fetch_tokenizer('someone/words')") == folder
    assert offline("fetch_model('someone/words')").startswith("HubUnreachableError: model: ")
    assert client("fetch_model('someone/words')") == folder
    assert offline("fetch_model('someone/words')") == folder
    assert "tokenizer: 'someone/none' is neither" in client("fetch_tokenizer('someone/none')")


def test_weights_on_the_hub_without_a_tokenizer_are_refused(hub, client, files):
    bare = {name: files[name] for name in ("config.json", "model.safetensors")}
    config = json.dumps(json.loads(bare["config.json"]) | {"_name_or_path": "someone/whole"}).encode()
    hub.commit("model", "someone/bare", bare | {"config.json": config})
    error = client("find_tokenizer('someone/bare', ['to be'])")
    assert error.startswith("ValueError: model: 'someone/bare' has trained weights and no tokenizer")
    assert error.endswith("--tokenizer someone/whole.")


def test_code_is_fetched_for_a_trusted_model_only_from_the_same_commit(hub, client, files, tmp_path):
    canary = tmp_path / "canary"
    code = f"import pathlib; pathlib.Path({str(canary)!r}).touch()\nfrom transformers import BertForMaskedLM as Odd"
    own = {"auto_map": {"AutoModelForMaskedLM": "someone/odd--odd.Odd"}}
    config = json.dumps(json.loads(files["config.json"]) | own).encode()
    old = hub.commit("model", "someone/odd", files | {"config.json": config, "odd.py": code.encode()})
    hub.commit("model", "someone/odd", files | {"config.json": config, "odd.py": b"raise SystemError('newer')"})
    words = "(ours := __import__('mlm_recipes')).load_tokenizer('someone/odd', {0!r})"
    load = f"[{words}, type(ours.load_model('someone/odd', {words}, revision={{0!r}}{{1}})).__name__][1]"
    assert client(load.format(old, "")) == "BertForMaskedLM"
    assert "odd.py" not in hub.fetched
    assert not canary.exists()
    assert client(load.format(old, ", trust_remote_code='someone/odd'")) == "BertForMaskedLM"
    assert canary.exists()
    assert hub.fetched["odd.py"] == 1


def test_a_connection_cut_within_the_weights_leaves_no_partial_file(hub, client, offline, home, files):
    old = hub.commit("model", "someone/cut", {"config.json": b"{}", "model.safetensors": b"old"})
    assert client("fetch_model('someone/cut')").endswith(old)
    hub.commit("model", "someone/cut", files)
    client("hub._fetch_model.cache_clear()")
    hub.cut["model.safetensors"] = 50_000
    error = client("fetch_model('someone/cut')")
    assert error.startswith("ValueError: model: fetching 'someone/cut' from the hub was interrupted (")
    assert "Partial files are not used. Run again" in error
    assert not list((home / "hub/models--someone--cut").rglob("*.incomplete"))
    assert [path.parent.name for path in home.glob("hub/*--cut/snapshots/*/model.safetensors")] == [old]
    # The branch is where it was when it was whole.
    assert offline("fetch_model('someone/cut')").endswith(old)
    hub.mend()
    hub.forget()
    folder = client("fetch_model('someone/cut')")
    assert Path(folder, "model.safetensors").read_bytes() == files["model.safetensors"]
    assert hub.fetched == {"model.safetensors": 1}  # what had come whole was kept


def test_a_download_cut_once_is_continued_where_it_broke(hub, client, files):
    hub.commit("model", "someone/resumed", files)
    hub.cut_once["model.safetensors"] = 50_000
    folder = client("fetch_model('someone/resumed')")
    assert Path(folder, "model.safetensors").read_bytes() == files["model.safetensors"]
    assert not hub.cut_once


def test_weights_with_another_sha256_are_refused_and_fetched_again(hub, client, home, files):
    hub.commit("model", "someone/wrong", files)
    right = files["model.safetensors"]
    hub.wrong["model.safetensors"] = right[:-4] + b"evil"
    error = client("fetch_model('someone/wrong')")
    assert error.startswith("ValueError: model: model.safetensors of 'someone/wrong' arrived with the sha256 ")
    assert not list((home / "hub/models--someone--wrong").rglob("model.safetensors"))
    assert "arrived with the sha256" in client("fetch_model('someone/wrong')")
    hub.mend()
    folder = client("fetch_model('someone/wrong')")
    assert Path(folder, "model.safetensors").read_bytes() == right


def test_complete_files_of_a_broken_download_are_checked_too(hub, client, files):
    """The next run assumes that an existing file has been checked."""
    split = {"model-00001-of-00002.safetensors": b"a" * 1000, "model-00002-of-00002.safetensors": b"b" * 1000}
    hub.commit("model", "someone/both", {"config.json": b"{}"} | split)
    hub.wrong["model-00001-of-00002.safetensors"] = b"c" * 1000
    hub.cut["model-00002-of-00002.safetensors"] = 500
    first = client("fetch_model('someone/both')")
    hub.cut.clear()
    again = client("fetch_model('someone/both')")
    for error in (first, again):
        assert "model-00001-of-00002.safetensors of 'someone/both' arrived with the sha256" in error


def test_missing_and_gated_repositories_are_refused(hub, client, files):
    hub.commit("model", "someone/known", files)
    hub.commit("model", "someone/gated", files, gated=True)
    hub.commit("dataset", "someone/gated", {"train.jsonl": jsonl("a")}, gated=True)
    assert client("fetch_model('someone/absent')").startswith("NotOnHubError: model: 'someone/absent' is neither")
    assert client("load_splits('someone/absent')").startswith("NotOnHubError: corpus: 'someone/absent' is neither")
    assert "model_revision: 'someone/known' has no revision 'v9'" in client("fetch_model('someone/known', 'v9')")
    for ask in ("fetch_model('someone/gated')", "load_splits('someone/gated')"):
        assert "'someone/gated' is gated on the hub" in client(ask)
        assert "hf auth login" in client(ask)


# Data sets


def test_a_data_set_is_fetched_once_pinned_to_a_commit_and_used_offline(hub, client, again, offline, cut_off):
    old = hub.commit("dataset", "someone/texts", two_configurations("old"))
    new = hub.commit("dataset", "someone/texts", two_configurations("new"))
    plain = {split: [f"new {split}"] for split in SPLITS}
    assert client("texts('someone/texts', config='plain')") == plain
    assert set(hub.fetched) == {"README.md"} | {f"plain/{split}-0.parquet" for split in SPLITS}
    assert set(hub.fetched.values()) == {1}
    assert client("texts('someone/texts', config='other', split='test')") == {"test": ["other new test"]}
    pinned = client(f"texts('someone/texts', config='plain', revision={old!r})")
    assert pinned == {split: [f"old {split}"] for split in SPLITS}
    hub.forget()
    assert again("texts('someone/texts', config='plain')") == plain
    assert not [asked for asked in hub.asked if ".parquet" in asked or asked.startswith("GET /datasets")]
    hub.forget()
    assert offline("texts('someone/texts', config='plain')") == plain  # though the old was prepared last
    assert offline(f"texts('someone/texts', config='plain', revision={old!r})") == pinned
    assert offline("texts('someone/texts', config='plain', streaming=True)") == plain
    assert "configurations. Accepted: one of plain, other" in offline("texts('someone/texts')")
    assert "HubUnreachableError" in offline(f"texts('someone/texts', config='other', revision={old!r})")
    assert "HubUnreachableError" in offline("texts('someone/else')")
    assert not hub.asked
    assert cut_off("texts('someone/texts', config='plain')") == plain
    assert f"using the cached files (revision main, commit {new[:7]})" in cut_off.said()


def test_another_cached_commit_is_not_used_instead(hub, client):
    """On its own, after an error, `datasets` loads the newest commit in its cache."""
    hub.commit("dataset", "someone/moving", two_configurations("old"))
    assert client("texts('someone/moving', config='plain', split='train')") == {"train": ["old train"]}
    hub.commit("dataset", "someone/moving", two_configurations("new"))
    hub.forbidden.add("plain")
    assert "HubUnreachableError" in client("texts('someone/moving', config='plain', split='train')")
    hub.mend()
    assert client("texts('someone/moving', config='plain', split='train')") == {"train": ["new train"]}


def test_a_data_set_without_a_card_has_one_configuration(hub, client, offline):
    hub.commit("dataset", "someone/lines", {"train.jsonl": jsonl("a", "b"), "validation.jsonl": jsonl("c")})
    whole = {"train": ["a", "b"], "validation": ["c"]}
    assert client("texts('someone/lines')") == whole
    assert client("texts('someone/lines', streaming=True)") == whole
    assert offline("texts('someone/lines')") == whole


def test_a_stream_downloads_nothing(hub, client, home):
    hub.commit("dataset", "someone/stream", {"train.jsonl": jsonl(*"ab"), "test.jsonl": jsonl("c")})
    assert client("texts('someone/stream', split='train', streaming=True)") == {"train": ["a", "b"]}
    assert client("twice('someone/stream')") == ["hub:someone/stream", ["a", "b"], ["a", "b"]]
    assert "test.jsonl" not in hub.fetched
    assert not list((home / "hub").glob("*stream*/blobs/*"))
    assert "has the splits train, test, not 'valid'" in client("twice('someone/stream', split='valid')")


def test_a_data_set_with_another_sha256_or_cut_is_refused_and_fetched_again(hub, client, home):
    hub.commit("dataset", "someone/wrong", {"train.jsonl": jsonl("a", "b"), "test.jsonl": jsonl("c" * 1000)})
    hub.cut["test.jsonl"] = 500
    error = client("load_splits('someone/wrong')")
    assert error.startswith("ValueError: corpus: fetching 'someone/wrong' from the hub was interrupted (")
    hub.mend()
    hub.wrong["test.jsonl"] = jsonl("d" * 1000)
    error = client("load_splits('someone/wrong')")
    assert error.startswith("ValueError: corpus: test.jsonl of 'someone/wrong' arrived with the sha256 ")
    assert not (home / "datasets/someone___wrong").exists()
    hub.mend()
    assert client("texts('someone/wrong')") == {"train": ["a", "b"], "test": ["c" * 1000]}
    assert hub.fetched["train.jsonl"] == 1


def test_a_data_set_that_cannot_be_read_says_why(hub, client):
    hub.commit("dataset", "someone/texts2", two_configurations("a"))
    hub.commit("dataset", "someone/script", {"script.py": b"import datasets"})
    hub.commit("dataset", "someone/empty", {"README.md": b"# Nothing\n"})
    hub.commit("dataset", "someone/torn", {"train.jsonl": b'{"text": "a"}\n{"text":'})
    mixed = {
        "a.parquet": parquet("a"),
        "b.jsonl": jsonl("b"),
        "README.md": card(a={"train": "a.parquet"}, b={"train": "b.jsonl"}),
    }
    hub.commit("dataset", "someone/mixed", mixed)
    wanted = {
        "'someone/texts2'": "corpus_config: 'someone/texts2' has several configurations. Accepted: one of plain, other",
        "'someone/texts2', config='c'": "has no configuration 'c'. Accepted: one of plain, other",
        "'someone/texts2', config='plain', split='dev'": "has no split 'dev'. Accepted: one of train, validation, test",
        "'someone/texts2', config='plain', revision='v9'": "corpus_revision: 'someone/texts2' has no revision 'v9'",
        "'someone/script'": "a loading script",
        "'someone/empty'": "'someone/empty' cannot be read (",
        "'someone/torn'": "'someone/torn' cannot be read (",
        "'someone/mixed', config='b'": "'someone/mixed' cannot be read (",
        "'someone/mixed', config='b', streaming=True": "'someone/mixed' cannot be read (",
    }
    for arguments, message in wanted.items():
        error = client(f"load_splits({arguments})")
        assert error.startswith("ValueError: corpus"), error
        assert message in error
        assert "\n" not in error


# The command line


def test_a_run_with_hub_ids_on_the_command_line(hub, environment, tmp_path, files, short_text):
    lines = short_text.read_text("utf-8").splitlines()
    hub.commit("dataset", "someone/notes", {"train.jsonl": jsonl(*lines[:50]), "validation.jsonl": jsonl(*lines[50:])})
    hub.commit("model", "someone/tiny-bert", files)
    weights = files["model.safetensors"]
    hub.commit("model", "someone/forged", {"config.json": files["config.json"], "model-forged.safetensors": weights})
    hub.wrong["model-forged.safetensors"] = weights[:-4] + b"evil"
    code = (
        "import sys; from mlm_recipes import cli\n"
        "values = '--max_steps 2 --save_strategy no --corpus someone/notes'.split()\n"
        "print([cli.main(['train', '--model', model, *values]) for model in ('someone/forged', 'someone/tiny-bert')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
        timeout=120,
    )
    assert done.stdout.endswith("\n[2, 0]\n")
    assert "50 to train on, 10 held out. The text is the column 'text'" in done.stdout
    assert " someone/tiny-bert: 0.1M parameters, from its trained weights" in done.stdout
    metrics = json.loads((tmp_path / "runs/someone-notes/metrics.json").read_text("utf-8"))
    assert metrics["corpus"]["source"] == "hub:someone/notes"
    # The first said this, and the second nothing.
    assert done.stderr.startswith(
        "mlm-recipes: error: model: model-forged.safetensors of 'someone/forged' arrived with"
    )
    assert done.stderr.count("\n") == 1
    assert not [asked for asked in hub.asked if "/someone/" not in asked]  # no telemetry either
