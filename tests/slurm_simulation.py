"""Plays SLURM for recipes/slurm/train.sbatch: `srun` and `scontrol` as scripts on the path, and a queue of one job.

What is simulated: srun starts a task for each rank, gives each its number, sends it the signals that SLURM would, ends
the rest of them `--wait` seconds after the first, and ends with the highest exit code; scontrol names the nodes, and
puts the job back into the queue. SLURM itself, several nodes and GPUs are not.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

SCRIPT = ROOT / "recipes/slurm/train.sbatch"
TASKS = 2
#: Seconds that a start may take on a busy machine.
PATIENCE = 240

SRUN = """
import os, re, subprocess, sys, time
options = {}
words = sys.argv[1:]
while words[0].startswith("--"):
    name, _, value = words.pop(0)[2:].partition("=")
    options[name] = value
assert options == {"kill-on-bad-exit": "0", "wait": "60"}, options
tasks = [
    subprocess.Popen(words, env=os.environ | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)})
    for rank in range(int(os.environ["SLURM_NTASKS"]))
]
with open(os.environ["SIMULATION"] + "/pids", "w") as file:
    file.write(" ".join(str(task.pid) for task in tasks))
ended = None
while any(task.poll() is None for task in tasks):
    if ended is None and any(task.poll() is not None for task in tasks):
        ended = time.monotonic()
    if ended is not None and time.monotonic() - ended > float(options["wait"]):
        for task in tasks:
            task.kill()
    time.sleep(0.05)
sys.exit(max(128 - task.returncode if task.returncode < 0 else task.returncode for task in tasks))
"""

SCONTROL = """
import os, sys
if sys.argv[1:] == ["show", "hostnames", "here"]:
    print("127.0.0.1")
elif sys.argv[1:2] == ["requeue"] and sys.argv[2] == os.environ["SLURM_JOB_ID"]:
    open(os.environ["SIMULATION"] + "/requeued", "w").close()
else:
    sys.exit(f"scontrol: {sys.argv[1:]}")
"""

TRAIN = """
import sys
from mlm_recipes.cli import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Start:
    """How one start of the job ended."""

    code: int
    requeued: bool
    log: str


class Queue:
    """A job in a queue, which runs whenever `start` is called.

    `folder` is for the simulation's own files, `run` is the run's folder, and `arguments` are those of the script.
    """

    def __init__(self, folder: Path, run: Path, arguments: list[str], port: int) -> None:
        self.folder, self.run, self.arguments = folder, run, arguments
        (folder / "bin").mkdir(parents=True)
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("mlm-recipes", TRAIN)):
            script = folder / "bin" / name
            script.write_text(f"#!{sys.executable}{text}")
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        self.environment = os.environ | {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "SIMULATION": str(folder), "OUT": str(run),
            "SLURM_JOB_NODELIST": "here", "SLURM_JOB_ID": str(port - 20_000), "SLURM_NTASKS": str(TASKS),
            "SLURM_NTASKS_PER_NODE": str(TASKS), "SLURM_CPUS_PER_TASK": "1",
        }  # fmt: skip

    def newest(self) -> int:
        """The step of the run's newest checkpoint."""
        return max((int(path.name.split("-")[1]) for path in self.run.glob("checkpoint-*")), default=0)

    def start(self, send: signal.Signals | None = None, to_all: bool = True, after: int = 2) -> Start:
        """Run the script; when it is `after` steps further, send a signal to all tasks, or to the last one only."""
        for name in ("pids", "requeued"):
            (self.folder / name).unlink(missing_ok=True)
        before, since, log = self.newest(), time.monotonic(), self.folder / "log"
        with log.open("w") as file:
            job = subprocess.Popen(
                ["bash", str(SCRIPT), *self.arguments], env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )
            while job.poll() is None and time.monotonic() - since < PATIENCE:
                if send is not None and self.newest() >= before + after:
                    pids = [int(pid) for pid in (self.folder / "pids").read_text().split()]
                    for pid in pids if to_all else pids[-1:]:
                        os.kill(pid, send)
                    send = None
                time.sleep(0.02)
            if job.poll() is None:  # not in time: nothing may be left behind
                for pid in (self.folder / "pids").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
        code, text = job.wait(), log.read_text()
        assert send is None, f"it ended with {code} before it could be disturbed:\n{text}"
        return Start(code, (self.folder / "requeued").exists(), text)


def directives() -> dict[str, str]:
    """The script's `#SBATCH` lines, by name."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPT.read_text("utf-8"), flags=re.MULTILINE))
