"""Uploads to the hub: real runs and the real client against a local hub."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from hub_server import Hub

from mlm_recipes import evaluate, reference
from mlm_recipes.recipes.upload import Upload, run_files

TOKEN = "hf_SECRETsecretSECRETsecret"

#: Runs in one process, as the command line starts them; prints the exit codes last.
RUNS = """
import sys
from pathlib import Path
from mlm_recipes import cli
from mlm_recipes.recipes.upload import Upload
model, corpus, token, *names = sys.argv[1:]
def run(name, *more):
    return cli.main([
        "train", "--model", model, "--corpus", corpus, "--max_steps", "2", "--per_device_train_batch_size", "4",
        "--output_dir", name, "--push_to_hub", "true", "--hub_token", token, "--save_strategy", "steps",
        "--save_steps", "1", "--eval_draws", "1", "--pseudo_perplexity_tokens", "500", "--prompts_compared", "6",
        "--bf16", "false", "--use_cpu", "true", *more])
codes = [run("works", "--hub_private_repo", "true"), run("fails", "--hub_model_id", "my-team/fails"),
         run("refused", "--hub_model_id", "refused/refused")]
Upload.open("checkpoints", token, None, "dev", "checkpoint").send(Path("works"))
print(codes)
"""


@pytest.fixture(scope="module")
def runs(checkpoint, short_text, tmp_path_factory):
    """The hub after these runs, the folder they ran in, and what they printed."""
    folder = tmp_path_factory.mktemp("runs")
    with Hub() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        hub.forbidden = {"/my-team/fails/commit/main", "refused"}
        done = subprocess.run(
            [sys.executable, "-c", RUNS, checkpoint, short_text, TOKEN],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield hub, folder, done, environment


def files(hub, name, branch="main"):
    repository = hub.repositories[("model", name)]
    return repository.commits[repository.refs[branch]]


@pytest.mark.slow
def test_the_run_folder_is_uploaded_in_one_commit(runs):
    hub, folder, done, _ = runs
    assert done.stdout.splitlines()[-1] == "[0, 3, 2]"
    arrived = files(hub, "somebody/works")
    there = {path.name for path in (folder / "works").iterdir() if path.is_file()}
    assert set(arrived) - {".gitattributes"} == there
    assert {"model.safetensors", "tokenizer.json", "README.md", "report.html", "metrics.json", "recipe.yaml"} <= there
    for name in there:
        assert arrived[name] == (folder / "works" / name).read_bytes(), name
    assert hub.asked.count("POST /api/models/somebody/works/commit/main") == 1
    assert f"Sent to {hub.url}/somebody/works/commit/" in done.stdout


@pytest.mark.slow
def test_the_uploaded_card_is_ours(runs):
    card = files(runs[0], "somebody/works")["README.md"].decode()
    assert "held-out loss" in card.split("---")[2]
    assert "library_name: transformers" in card
    assert "generated_from_trainer" not in card


@pytest.mark.slow
def test_the_token_is_sent_only_as_authorisation_and_never_written(runs):
    hub, folder, done, _ = runs
    assert hub.authorised == {f"Bearer {TOKEN}"}
    assert hub.sent
    assert not [body for body in hub.sent if TOKEN.encode() in body]
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    assert TOKEN not in done.stdout + done.stderr
    assert not [name for name in files(hub, "somebody/works") if name == "training_args.bin"]


@pytest.mark.slow
def test_checkpoints_are_sent_only_with_the_matching_strategy(runs):
    hub, folder, *_ = runs
    assert (folder / "works" / "checkpoint-2").is_dir()
    arrived = files(hub, "somebody/checkpoints", "dev")
    newest = {name for name in arrived if "/" in name}
    assert "last-checkpoint/optimizer.pt" in newest
    assert all(name.startswith("last-checkpoint/") for name in newest)
    state = json.loads(arrived["last-checkpoint/trainer_state.json"])
    assert state["global_step"] == 2
    assert set(files(hub, "somebody/checkpoints")) == {".gitattributes"}


@pytest.mark.slow
def test_a_failed_upload_leaves_a_finished_run_and_says_how_to_send_it(runs):
    hub, folder, done, environment = runs
    error = done.stderr[done.stderr.index("mlm-recipes: error: the copy on the hub: not made.") :]
    assert "OSError: push_to_hub: 'my-team/fails' could not be written to: " in error
    assert "The run itself is finished and complete in fails." in error
    for name in ("model.safetensors", "metrics.json", "report.html", "README.md", "recipe.yaml"):
        assert (folder / "fails" / name).is_file()
    assert "Everything is in fails" in " ".join(done.stdout.split())  # the last screen, although the upload failed
    assert set(files(hub, "my-team/fails")) == {".gitattributes"}
    (command,) = [line.strip() for line in error.splitlines() if line.strip().startswith("hf upload ")]
    hub.forbidden = set()
    program = str(Path(sys.executable).with_name("hf"))
    again = environment | {"HF_TOKEN": TOKEN}
    subprocess.run([program, *shlex.split(command)[1:]], cwd=folder, env=again, check=True, capture_output=True)
    arrived = files(hub, "my-team/fails")
    there = {path.name for path in (folder / "fails").iterdir() if path.is_file()}
    assert set(arrived) - {".gitattributes"} == there


@pytest.mark.slow
def test_a_finished_run_that_is_queued_again_is_sent(runs):
    hub, folder, _, environment = runs
    again = [sys.executable, "-m", "mlm_recipes", "train", "works", "--output_dir", "works"]
    again += ["--resume_from_checkpoint", "auto", "--push_to_hub", "true", "--hub_token", TOKEN, "--hub_model_id"]
    done = subprocess.run([*again, "my-team/again"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "works holds this run, finished: nothing is left to train." in done.stdout
    assert "model.safetensors" in files(hub, "my-team/again")
    hub.forbidden = {"/my-team/never/commit/main"}
    done = subprocess.run([*again, "my-team/never"], cwd=folder, env=environment, capture_output=True, text=True)
    hub.forbidden = set()
    assert done.returncode == 3
    assert "the copy on the hub: not made." in done.stderr
    sent = Upload("a/b", strategy="checkpoint")
    commands = sent._again(folder / "works", ["config.json"]).splitlines()
    assert commands[1].split() == shlex.split(
        f"hf upload a/b {shlex.quote(str(folder / 'works/checkpoint-2'))} last-checkpoint --exclude training_args.bin"
    )


@pytest.mark.slow
def test_missing_write_access_is_reported_before_training(runs):
    _, folder, done, _ = runs
    assert "push_to_hub: 'refused/refused' cannot be written to at http://127.0.0.1" in done.stderr
    assert "Nothing was trained." in done.stderr
    assert not (folder / "refused").exists()


def test_without_a_hub_the_run_is_kept_and_the_command_has_no_token(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    upload = Upload("me/mine", token=TOKEN, revision="dev")
    with pytest.raises(OSError, match=r"could not be written to: .*HF_HUB_OFFLINE") as error:
        upload.send(tmp_path)
    assert f"hf upload me/mine {tmp_path} . --revision dev --include config.json" in str(error.value)
    assert TOKEN not in str(error.value) + repr(upload)
    with pytest.raises(OSError, match=r"'me/mine' cannot be written to at .*hf auth login"):
        Upload.open("me/mine", TOKEN, None, None, "end")


def test_private_files_in_the_folder_are_not_sent(tmp_path):
    ours = ["README.md", "config.json", "metrics.json", "model-00001-of-00002.safetensors", "spiece.model"]
    for name in [*ours, "notes.txt", ".env", "training_args.bin", "optimizer.pt", "secret.py", "vocab.txt"]:
        (tmp_path / name).write_text("{}")
    (tmp_path / "runs").mkdir()
    assert run_files(tmp_path, ["spiece.model"]) == ours
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModelForMaskedLM": "secret.Model"}}')
    assert "secret.py" in run_files(tmp_path)


@pytest.mark.parametrize("verb", [evaluate, reference])
def test_only_train_uploads(verb):
    with pytest.raises(ValueError, match="push_to_hub: received true"):
        verb(push_to_hub=True)
