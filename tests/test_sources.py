from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from mlm_recipes.sources import MODELS, model_folder


def test_a_name_is_first_a_built_in_model_then_a_folder(checkpoint, tmp_path):
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


@pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "bert-base-uncased"])
def test_a_hub_id_without_a_network_says_what_to_do(name):
    with pytest.raises(ValueError, match=f"'{name}'.*hub cannot be reached.*built-in `mini`"):
        model_folder(name)


def test_a_typing_error_is_guessed():
    with pytest.raises(ValueError, match=r"Did you mean 'mini'\?"):
        model_folder("minni")


# The hub, as a server on this machine that speaks its protocol: the real client runs against it.


class Hub:
    def __init__(self, files: dict[str, bytes], delay: float = 0.0) -> None:
        outer = self
        self.asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self, body=True):
                time.sleep(delay)
                path = self.path.split("?")[0]
                outer.asked.append(path)
                if re.fullmatch(r"/api/models/someone/tiny(/revision/main)?", path):
                    siblings = [{"rfilename": name} for name in files]
                    self.reply(json.dumps({"id": "someone/tiny", "sha": "0" * 40, "siblings": siblings}).encode(), body)
                elif path.startswith("/api/models/someone/tiny/tree/"):
                    tree = [{"type": "file", "path": n, "size": len(c), "oid": "1" * 40} for n, c in files.items()]
                    self.reply(json.dumps(tree).encode(), body)
                elif path.startswith("/someone/tiny/resolve/") and path.rsplit("/", 1)[1] in files:
                    self.reply(files[path.rsplit("/", 1)[1]], body)
                else:
                    self.reply(b"{}", body, 404, "RepoNotFound")

            def do_HEAD(self):
                self.do_GET(body=False)

            def reply(self, content, body, status=200, error=None):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", f'"{len(content)}-{abs(hash(content))}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                if error:
                    self.send_header("X-Error-Code", error)
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def ask(name, tmp_path, endpoint):
    """Ask for a model in a process of its own: the hub's client reads its endpoint once, when it is imported."""
    code = (
        "import sys, logging; from mlm_recipes.sources import model_folder\n"
        "try: print(sorted(path.name for path in model_folder(sys.argv[1]).iterdir()))\n"
        "except ValueError as error: print(error)"
    )
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, name], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip().splitlines()[-1], time.monotonic() - started


@pytest.fixture(scope="module")
def hub():
    hub = Hub(
        {
            "config.json": b"{}",
            "tokenizer.json": b"{}",
            "vocab.txt": b"a",
            "model.safetensors": b"weights",
            "pytorch_model.bin": b"pickle",
            "tf_model.h5": b"other",
            "README.md": b"card",
        }
    )
    yield hub
    hub.close()


def test_from_the_hub_comes_what_is_needed_and_no_pickle_beside_safetensors(hub, tmp_path):
    answer, _ = ask("someone/tiny", tmp_path, hub.url)
    assert answer == "['config.json', 'model.safetensors', 'tokenizer.json', 'vocab.txt']"
    # and without the hub, what was fetched is used
    again, _ = ask("someone/tiny", tmp_path, "http://127.0.0.1:9")
    assert again == answer


def test_a_model_that_the_hub_does_not_have(hub, tmp_path):
    answer, _ = ask("someone/else", tmp_path, hub.url)
    assert "'someone/else' is neither built in, nor a local folder, nor a model on the hub" in answer


def test_a_hub_that_refuses_the_connection_is_given_up_at_once(tmp_path):
    answer, seconds = ask("someone/tiny", tmp_path, "http://127.0.0.1:9")
    assert "hub cannot be reached" in answer
    assert seconds < 20


def test_a_hub_that_accepts_and_says_nothing_is_given_up_too(tmp_path):
    silent = Hub({}, delay=40)
    try:
        answer, seconds = ask("someone/tiny", tmp_path, silent.url)
    finally:
        silent.close()
    assert "hub cannot be reached" in answer
    assert seconds < 20
