"""Secrets stay out of everything that is written, shown or sent."""

from __future__ import annotations

import base64
import http.server
import shutil
import threading
from pathlib import Path

import pytest
import yaml

from mlm_recipes import MLMConfig, cli, load_corpus
from mlm_recipes.sources.credentials import are_left_out, without_credentials

#: Each in another place; none may be found anywhere afterwards.
CANARY = "canary"
ENVIRONMENT = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MLM_RECIPES_ANY_VALUE")


@pytest.fixture
def server(short_text):
    """A text that is served only with the password and the signature."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization", "")))
            password = base64.b64encode(b"me:canary-password").decode()
            if asked[-1] != ("/notes.txt?sig=canary-signature&page=1", f"Basic {password}"):
                self.send_error(403)
                return
            text = short_text.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def address(server, name="notes.txt", signature="canary-signature"):
    return f"http://me:canary-password@127.0.0.1:{server.server_port}/{name}?sig={signature}&page=1#canary-fragment"


def assert_no_canary(folder, *screens):
    """Read every byte of every file, and what was printed."""
    read = [path for path in folder.rglob("*") if path.is_file()]
    for path in read:
        assert CANARY.encode() not in path.read_bytes(), path
        assert CANARY.encode("utf-16-le") not in path.read_bytes(), path
        assert CANARY not in path.name
    for screen in screens:
        assert CANARY not in screen
        # Cut off at the end of a line, it would not be found whole.
        assert CANARY not in "".join(screen.split())
    return {path.name for path in read}


@pytest.mark.slow
def test_no_secret_is_written_or_shown(server, checkpoint, tmp_path, monkeypatch, capsys):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, f"canary-of-{name}")
    url, local = address(server), f"http://***@127.0.0.1:{server.server_port}/notes.txt?***"
    values = ["--model", str(checkpoint), "--max_length", "32", "--max_steps", "4", "--save_steps", "2"]
    values += ["--save_strategy", "steps", "--save_total_limit", "9", "--hub_token", "canary-of-hub-token"]
    texts = ["--corpus", url, "--general_corpus", url]
    assert cli.main(["train", "adapt", *values, *texts]) == 0
    shown = capsys.readouterr()
    names = assert_no_canary(tmp_path, *shown)
    expected = {"metrics.json", "recipe.yaml", "report.html", "README.md", "trainer_state.json", "optimizer.pt"}
    assert expected <= names
    assert "training_args.bin" not in names
    run = Path("runs/notes")  # named for the file, not for what stands behind it
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (recipe["corpus"], recipe["general_corpus"]) == (local, local)
    assert "hub_token" not in recipe

    # It is said that the address must be given again, and then the run is repeated, or goes on.
    shutil.rmtree(run / "checkpoint-4")
    (run / "metrics.json").unlink()
    for again in (["--output_dir", "again"], ["--resume_from_checkpoint", "true"]):
        assert cli.main(["train", str(run), *again]) == 2
        error = capsys.readouterr().err
        assert "is a URL without its credentials: recipe.yaml has" in error
        assert "Pass it again: --corpus" in error
    assert cli.main(["train", str(run), "--resume_from_checkpoint", "true", *texts]) == 0
    assert_no_canary(tmp_path, *capsys.readouterr())
    (run / "metrics.json").unlink()
    asked = ["train", "--resume_from_checkpoint", "true", "--model", str(checkpoint), *texts]
    assert cli.main(asked) == 0  # the unfinished run of this corpus and model is found
    assert Path("runs").exists()
    assert [path.name for path in Path("runs").iterdir()] == ["notes"]

    assert cli.main(["inspect", url, "--model", str(checkpoint), "--no_timing", "--validation_corpus", url[:-20]]) != 0
    capsys.readouterr()
    assert cli.main(["inspect", url, "--model", str(checkpoint), "--no_timing"]) == 0
    shown = capsys.readouterr()
    assert local in shown.out
    assert_no_canary(tmp_path, *shown)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--corpus", "{right}", "--corpus_sha256", "0" * 64],
        ["--corpus", "{right}", "--corpus_split", "train"],
        ["--corpus", "{wrong}"],
        ["--corpus", "meditations", "--validation_corpus", "{wrong}"],
        ["--corpus", "{right}", "--streaming", "true", "--max_steps", "1", "--encoding", "utf-9"],
        ["--corpus", "ftp://me:canary-password@example.org/a.txt"],
        ["--corpus", "HTTPS://me:canary@password@example.org/a.txt?x=canary"],
        ["--corpus", "s3://canary:canary@bucket/a.txt"],
        ["--model", "https://me:canary-password@example.org/model?token=canary"],
    ],
)
def test_no_error_shows_a_secret(arguments, server, capsys, tmp_path):
    addresses = {"right": address(server), "wrong": address(server, signature="canary-of-another")}
    assert cli.main(["train", *(each.format(**addresses) for each in arguments)]) == 2
    assert_no_canary(tmp_path, *capsys.readouterr())


def test_load_corpus_shows_no_secret_either(server, caplog):
    with caplog.at_level("DEBUG", logger="mlm_recipes"):
        corpus = load_corpus(address(server))
    assert CANARY not in str(corpus.facts)
    assert CANARY not in caplog.text
    assert corpus.facts["name"] == "notes"


def test_credentials_are_removed_from_every_recipe_value():
    config = MLMConfig(run_name="see https://me:canary@example.org/?key=canary", hub_token="canary", use_cpu=True)
    assert CANARY not in str(config.to_recipe())
    assert CANARY not in repr(config)[: repr(config).index("run_name")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/a.txt", "https://example.org/a.txt"),
        ("https://u@example.org/a", "https://***@example.org/a"),
        ("https://u:p@ss@example.org/a", "https://***@example.org/a"),
        ("https://example.org/a#access_token=x", "https://example.org/a?***"),
        ("https://example.org/a?x=1&y=2#z and so on", "https://example.org/a?*** and so on"),
        ("a@b.org wrote: texts/*.txt?", "a@b.org wrote: texts/*.txt?"),
    ],
)
def test_what_remains_of_a_url(text, shown):
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown  # a resumed run compares what was written with what is asked for
    assert are_left_out(shown) == ("***" in shown and " " not in shown)
