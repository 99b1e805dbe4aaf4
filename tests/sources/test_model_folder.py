from __future__ import annotations

import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading

import pytest
from hub_server import Hub

from mlm_recipes.data import tokenizer as tokenizer_module
from mlm_recipes.model import loading
from mlm_recipes.sources.model_folder import MODELS, model_folder


def test_a_built_in_model_takes_precedence_over_a_folder(checkpoint, tmp_path):
    assert model_folder("mini") == MODELS / "mini"
    assert model_folder(checkpoint) == checkpoint
    assert model_folder(str(checkpoint)) == checkpoint


@pytest.mark.parametrize("name", ["./bert", "/no/such/bert", "some/deep/folder", "~/no-such-bert"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(ValueError, match=f"there is no folder {re.escape(repr(name))}"):
        model_folder(name)


def test_a_folder_without_a_model_is_refused_and_a_checkpoint_in_it_named(tmp_path, checkpoint):
    run = tmp_path / "run"
    (run / "checkpoint-10").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"without a config\.json"):
        model_folder(run)
    (run / "checkpoint-10" / "config.json").write_text((checkpoint / "config.json").read_text())
    with pytest.raises(ValueError, match=r"newest checkpoint is .*checkpoint-10"):
        model_folder(run)


def test_a_folder_of_sentence_transformers_says_what_to_name(tmp_path, checkpoint):
    shutil.copytree(checkpoint, tmp_path / "sentences" / "0_Transformer")
    with pytest.raises(ValueError, match=r"name .*0_Transformer\."):
        model_folder(tmp_path / "sentences")


@pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "bert-base-uncased"])
def test_the_error_without_a_network_names_the_next_step(name):
    with pytest.raises(ValueError, match=f"'{name}'.*hub cannot be reached.*built-in `mini`"):
        model_folder(name)


def test_only_hub_models_have_revisions(checkpoint):
    for name in ("mini", checkpoint):
        with pytest.raises(ValueError, match=r"model_revision: received 'v1' for .* Leave it out"):
            model_folder(name, "v1")


def test_every_loader_uses_the_given_revision(checkpoint, tokenizer, monkeypatch):
    asked = []

    def remember(name, revision=None, with_code=False):
        asked.append(revision)
        return checkpoint

    monkeypatch.setattr(loading, "model_folder", remember)
    monkeypatch.setattr(tokenizer_module, "model_folder", remember)
    loading.load_model("someone/tiny", tokenizer, revision="v1")
    tokenizer_module.load_or_train_tokenizer("someone/tiny", None, revision="v1")
    assert len(asked) >= 3
    assert set(asked) == {"v1"}


def test_a_typing_error_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"Did you mean 'mini'\?"):
        model_folder("minni")


# The hub: its clients run against a server on this machine; more of it in test_hub.py.


def ask(name, tmp_path, endpoint):
    """Fetch a model in a separate process, since the hub's client reads its endpoint only when it is imported."""
    code = (
        "import sys, logging; from mlm_recipes.sources.model_folder import model_folder\n"
        "try: print(sorted(path.name for path in model_folder(sys.argv[1]).iterdir()))\n"
        "except ValueError as error: print(error)"
    )
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", code, name], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def hub():
    files = ("config.json", "tokenizer.json", "vocab.txt", "model.safetensors", "pytorch_model.bin", "tf_model.h5")
    with Hub() as hub:
        hub.commit("model", "someone/tiny", dict.fromkeys((*files, "README.md"), b"{}"))
        hub.commit("model", "someone/older", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
        yield hub


@pytest.mark.slow
def test_only_needed_files_and_no_pickle_are_fetched_from_the_hub(hub, tmp_path):
    answer = ask("someone/tiny", tmp_path, hub.url)
    assert answer == "['config.json', 'model.safetensors', 'tokenizer.json', 'vocab.txt']"
    # and without the hub, what was fetched is used
    again = ask("someone/tiny", tmp_path, "http://127.0.0.1:9")
    assert again == answer
    pickle = ask("someone/older", tmp_path, hub.url)
    assert pickle == "['config.json']"
    again = ask("someone/older", tmp_path, "http://127.0.0.1:9")
    assert again == pickle


def test_a_model_that_the_hub_does_not_have(hub, tmp_path):
    answer = ask("someone/else", tmp_path, hub.url)
    assert "'someone/else' is neither built in, nor a local folder, nor a model on the hub" in answer


class HangsUp(socketserver.ThreadingTCPServer):
    """A hub that hangs up on each client and counts them."""

    daemon_threads, calls = True, 0

    def finish_request(self, request, client_address):
        self.calls += 1


def test_a_hub_that_hangs_up_is_asked_at_most_twice(tmp_path):
    """Stock transformers retries for 23 s."""
    with HangsUp(("127.0.0.1", 0), socketserver.BaseRequestHandler) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        answer = ask("someone/tiny", tmp_path, f"http://127.0.0.1:{hub.server_address[1]}")
        hub.shutdown()
    assert "hub cannot be reached" in answer
    assert 1 <= hub.calls <= 2


@pytest.mark.slow  # it waits
def test_a_hub_that_accepts_but_never_responds_times_out(tmp_path):
    with Hub() as silent:
        silent.delay = 40  # then it would answer that there is no such model
        answer = ask("someone/tiny", tmp_path, silent.url)
    assert "hub cannot be reached" in answer
