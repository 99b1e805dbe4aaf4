"""Every test runs offline, in a folder of its own, with caches of its own."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from gpu_visibility import hide_gpus, why_skipped

hide_gpus()  # before torch is imported

ROOT = Path(__file__).parent.parent
# Processes that tests start find the package, also if this checkout is not installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

# Before transformers, datasets or evaluate are imported: they read these once.
_CACHE = tempfile.mkdtemp(prefix="mlm-recipes-test-")
os.environ |= {
    "HF_HOME": _CACHE,
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # What was compiled for other instructions is taken from torch's own cache, and fails (torch 2.13).
    "TORCHINDUCTOR_CACHE_DIR": f"{_CACHE}/inductor",
}
if "PYTEST_XDIST_WORKER" in os.environ:  # a core for each worker, unless somebody says otherwise: `make test-isa`
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import datasets  # noqa: E402
import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    TrainingArguments,
    set_seed,
)

from mlm_recipes import DataCollatorForMaskedLM, load_corpus, train_tokenizer  # noqa: E402
from mlm_recipes.checkpoints.storage import MANIFEST, commit  # noqa: E402
from mlm_recipes.report import plots, probe_plot  # noqa: E402
from mlm_recipes.training.faults.stop_signals import SIGNALS  # noqa: E402
from mlm_recipes.training.speed import precision  # noqa: E402

# The tests' bounds are float32's, whatever this machine is fast at; those of bf16 ask for it.
precision.has_fast_bf16 = lambda use_cpu: False

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# What it was called before transformers 5.23, and until version 6 may still be.
_RENAMED = hasattr(TrainingArguments, "activation_checkpointing")
CHECKPOINTING = "activation_checkpointing" if _RENAMED else "gradient_checkpointing"
datasets.disable_progress_bars()

# Trainer collects garbage after each run: a third of a second over all that torch and transformers have imported, which
# is here to stay. Frozen, it is passed over, here and in the processes that import this file.
gc.freeze()


def pytest_collection_modifyitems(items):
    for item in items:
        if reason := why_skipped(marked_gpu=item.get_closest_marker("gpu") is not None):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish():
    """Pass over what the test modules have imported too."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _own_log():
    """The command line shows what the library logs, and a test in the same process must not see it.

    A run with `log_level` sets that of transformers, which decides whether the next one shows a bar.
    """
    log, upstream = logging.getLogger("mlm_recipes"), logging.getLogger("transformers")
    before, level, upstream_level = [*log.handlers], log.level, upstream.level
    yield
    log.handlers[:] = before
    log.setLevel(level)
    upstream.setLevel(upstream_level)


def _empty_plot(name, title, draw):
    return ElementTree.Element("svg", {"aria-labelledby": f"{name}-title"})


@pytest.fixture(scope="module", autouse=True)
def _plots_without_drawing(request):
    """Drawing a plot takes a tenth of a second: the default suite does it in the tests of the report only."""
    if "not slow" not in request.config.option.markexpr or request.path.parent.name == "report":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for module in (plots, probe_plot):
            patch.setattr(module, "as_svg", _empty_plot)
        yield


@pytest.fixture
def signals_as_ever():
    """A shell starts what runs in its background with SIGINT ignored; here a signal does what it does elsewhere."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _remove_cache():
    yield
    import shutil

    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture
def benchmark(monkeypatch):
    """Import one of the benchmarks as it is imported when run: its folder comes first on the path."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])  # some add to it
    return importlib.import_module


@pytest.fixture(scope="session")
def corpus():
    return load_corpus("meditations")


@pytest.fixture(scope="session")
def tokenizer(corpus):
    return train_tokenizer(corpus["train"]["text"], vocab_size=1000)


@pytest.fixture
def tiny_bert(tokenizer):
    """A BERT of two layers by 32, without dropout, the same in every test."""
    return make_bert(tokenizer)


def make_bert(tokenizer, **changes):
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    set_seed(0)
    return BertForMaskedLM(BertConfig(**(values | changes)))


def make_model(architecture, tokenizer, dropout=0.0):
    """A tiny model of one of the architectures that the layout tests hold to the same numbers."""
    if architecture == "bert":
        return make_bert(tokenizer, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    values = {
        "roberta": size | {"max_position_embeddings": 130, "type_vocab_size": 1, "hidden_dropout_prob": dropout,
                           "attention_probs_dropout_prob": dropout},
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "dropout": dropout,
                       "attention_dropout": dropout, "max_position_embeddings": 128},
        "modernbert": size | {"max_position_embeddings": 128, "bos_token_id": 101, "eos_token_id": 102,
                              "cls_token_id": 101, "sep_token_id": 102, "mlp_dropout": dropout,
                              "attention_dropout": dropout, "embedding_dropout": dropout},
        "mpnet": size | {"max_position_embeddings": 130, "hidden_dropout_prob": dropout,
                         "attention_probs_dropout_prob": dropout},
    }[architecture]  # fmt: skip
    set_seed(0)
    return AutoModelForMaskedLM.from_config(
        AutoConfig.for_model(architecture, vocab_size=len(tokenizer), pad_token_id=0, **values)
    )


@pytest.fixture(scope="session")
def checkpoint(tokenizer, tmp_path_factory):
    """A checkpoint on disk, such as a person would download: model, tokenizer, safetensors."""
    folder = tmp_path_factory.mktemp("checkpoint")
    make_bert(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def reseal(folder):
    """Make a checkpoint of a folder whose files were changed by hand, as if it had been saved so."""
    (folder / MANIFEST).unlink(missing_ok=True)
    commit(folder.rename(folder.with_name("being-changed")), folder)


@pytest.fixture(scope="session")
def short_text(tmp_path_factory):
    """A text file of sixty short paragraphs."""
    path = tmp_path_factory.mktemp("text") / "notes.txt"
    lines = (ROOT / "mlm_recipes/bundled/corpora/meditations.txt").read_text("utf-8").splitlines()[:60]
    path.write_text("\n".join(" ".join(line.split()[:20]) for line in lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def rows(tokenizer):
    """Rows of token ids as a person might bring them: no data set, no example_id."""
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 9, 3, 12, 7, 9, 4, 6]
    return [
        {"input_ids": [101, *torch.randint(104, len(tokenizer), (n,), generator=generator).tolist(), 102]}
        for n in lengths
    ]


@pytest.fixture
def frozen(tokenizer):
    """The collator of evaluation."""
    return DataCollatorForMaskedLM(tokenizer).frozen(seed=0)


@pytest.fixture
def numbered(rows):
    """The rows with an example_id each."""
    return [row | {"example_id": i} for i, row in enumerate(rows)]
