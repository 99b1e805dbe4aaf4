"""Import and train where a system has less: no fcntl, no fork, no SIGUSR1, no fsync of folders, a console in cp1252.

What other systems lack is taken away here; the systems themselves are not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from mlm_recipes.report import printing, terminal
from mlm_recipes.sources import escaping, names

#: A process that has what Windows has. What this library stands on is imported before: it looks at `sys.platform`,
#: which stays Linux here, and is right to use what Linux has.
ELSEWHERE = """
import os, pkgutil, shutil, signal, sys, warnings
import accelerate, datasets, evaluate, filelock, huggingface_hub, matplotlib.figure, pooch, rensa, rich.console
import torch, transformers
from transformers import AutoModelForMaskedLM, ModernBertForMaskedLM, Trainer

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "syslog"):
    sys.modules[name] = None
for name in ("fork", "forkpty", "getuid", "geteuid", "getpgid", "killpg", "setsid", "sync", "posix_fadvise", "uname",
             "sched_getaffinity", "sysconf", "getloadavg", "nice", "chown", "mkfifo", "O_DIRECTORY"):
    delattr(os, name)
for name in ("SIGKILL", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGALRM"):
    delattr(signal, name)
open_descriptor, rename = os.open, os.rename

def open_file(path, flags, *more, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return open_descriptor(path, flags, *more, **named)

def rename_where_nothing_is(source, place, *more, **named):
    if os.path.lexists(place):
        raise FileExistsError(17, "File exists", place)
    rename(source, place, *more, **named)

os.open, os.rename = open_file, rename_where_nothing_is
shutil._use_fd_functions = False  # or rmtree would open folders

# An encoding that is not named would be the system's, here ASCII.
warnings.filterwarnings("error", category=EncodingWarning, module="mlm_recipes")
import mlm_recipes
modules = [module.name for module in pkgutil.walk_packages(mlm_recipes.__path__, "mlm_recipes.")]
for name in modules:
    if name != "mlm_recipes.__main__":
        __import__(name)
print(len(modules), "modules", flush=True)
from mlm_recipes.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_modules_import_and_the_quickstart_trains_where_a_system_has_less(tmp_path):
    text = (ROOT / "mlm_recipes/bundled/corpora/meditations.txt").read_text("utf-8").splitlines()[:20]
    (tmp_path / "text.txt").write_text("\n".join(f"caf\u00e9: {line}" for line in text), encoding="utf-8")
    (tmp_path / "prompts.txt").write_text("The \u03bb\u00e9 [MASK] of man.", encoding="utf-8")
    flags = {"corpus": "text.txt", "prompts": "prompts.txt", "max_steps": 2, "save_strategy": "steps",
             "save_steps": 1, "save_total_limit": 1, "max_length": 32,
             "per_device_train_batch_size": 4, "general_corpus": "none", "bf16": False,
             "eval_draws": 1, "pseudo_perplexity_tokens": 200, "prompts_compared": 4}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-X", "utf8=0", "-c", ELSEWHERE, "train", "quickstart",
         *(f"--{name}={value}" for name, value in flags.items())],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252", "PYTHONCOERCECLOCALE": "0",
                          "LC_ALL": "en_US.ISO-8859-1"},
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    shown = done.stdout.decode("cp1252") + done.stderr.decode("cp1252")
    assert done.returncode == 0, shown
    assert shown.startswith(f"{len(list((ROOT / 'mlm_recipes').rglob('*.py'))) - 1} modules")
    assert "yours: The \\u03bb\u00e9 [MASK] of man." in shown  # the console knows one of the two letters
    folder = Path("runs/text")
    assert {"model.safetensors", "metrics.json", "report.html", "README.md", "checkpoint-2"} <= {
        path.name for path in folder.iterdir()
    }
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert metrics["train"]["peak_memory"] is None  # nobody counts it there
    assert "not_made" not in metrics
    assert "peak memory" not in (folder / "report.html").read_text("utf-8")


def test_a_path_of_windows_is_no_hub_id(monkeypatch):
    monkeypatch.setattr(os, "sep", "\\")
    found = [names.looks_like_path(name) for name in (r"texts\book", r"C:\texts\book", "./notes", "owner/name")]
    monkeypatch.undo()
    assert found == [True, True, True, False]


def test_a_command_is_quoted_as_the_system_has_it(monkeypatch):
    words = ("mlm-recipes", "fill", "The [MASK] of man.")
    assert escaping.shell(*words) == "mlm-recipes fill 'The [MASK] of man.'"
    monkeypatch.setattr(sys, "platform", "win32")
    windows = escaping.shell(*words)
    monkeypatch.undo()
    assert windows == 'mlm-recipes fill "The [MASK] of man."'


def test_a_checkout_that_is_not_installed_is_called_as_a_module(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert terminal.command() == "python -m mlm_recipes"
    (tmp_path / "mlm-recipes").touch()
    assert terminal.command() == "mlm-recipes"


def test_what_cannot_be_printed_is_said_once_and_ends_nothing(monkeypatch, capsys):
    class Gone:
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self):
            pass

        def fileno(self):
            raise ValueError("none")

    monkeypatch.setattr(sys, "stdout", Gone())
    printing.say("hello")
    assert capsys.readouterr().err == (
        "mlm-recipes: error: nothing more can be printed ([Errno 32] Broken pipe). The command continues.\n"
    )


def test_bundled_texts_keep_their_line_ends_on_every_system():
    """git may write CRLF on Windows; their sha256 would be another."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = [
        "mlm_recipes/bundled/corpora/meditations.txt",
        "Makefile",
        "mlm_recipes/bundled/models/mini/model.safetensors",
    ]
    said = subprocess.run(
        ["git", "check-attr", "eol", "binary", "--", *names], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(f"{name}: eol: lf" in said for name in names[:2])
    assert f"{names[2]}: binary: set" in said
