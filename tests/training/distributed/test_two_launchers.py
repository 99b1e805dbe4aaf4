"""Two launchers, as on two machines: what fails on one ends both, and a run outlives the loss of one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from same_run import PROPORTIONAL_STEPS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/task").exists(), reason="a launcher's processes are found in Linux's /proc"
    ),
]

STEPS = 300
RUN = {
    "max_steps": STEPS, "max_length": 32, "general_corpus": "none", "max_eval_samples": 4, "save_strategy": "steps",
    "save_steps": 20, "save_total_limit": 2, "per_device_train_batch_size": 4, "bf16": "false", **PROPORTIONAL_STEPS,
}  # fmt: skip


def flags(**values):
    return [word for name, value in {**RUN, **values}.items() for word in (f"--{name}", str(value))]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Launchers:
    """Two launchers of one process each, with a log each in the working directory."""

    def __init__(self, corpora, *launch, **values):
        rendezvous = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{free_port()}", "--rdzv_id", "run"]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1", *rendezvous, *launch]
        command += ["-m", "mlm_recipes", "train", *flags(output_dir=Path("out").absolute(), **values)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.logs, self.processes = [Path(f"{host}.log") for host in (0, 1)], []
        for log, corpus in zip(self.logs, corpora, strict=True):
            if self.processes:  # the first keeps the store
                time.sleep(1)
            with log.open("w") as file:
                self.processes.append(
                    subprocess.Popen([*command, "--corpus", str(corpus)], stdout=file, stderr=file, env=env)
                )

    def worker(self, host):
        """Return the id of the process that trains under a launcher."""
        launcher = self.processes[host].pid
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        (found,) = [int(pid) for pid in children if b"mlm_recipes\0train" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return found

    def wait_for(self, name):
        deadline = time.monotonic() + 400
        while not Path("out", name).exists():
            assert time.monotonic() < deadline, self.said(0)
            assert self.processes[0].poll() is None, self.said(0)
            time.sleep(0.05)

    def end(self):
        return [process.wait(timeout=400) for process in self.processes]

    def said(self, host):
        return self.logs[host].read_text()

    def errors(self, host):
        return [line for line in self.said(host).splitlines() if line.startswith("mlm-recipes")]


@pytest.fixture
def launched(checkpoint):
    started = []
    yield lambda *args, **values: started.append(Launchers(*args, model=checkpoint, **values)) or started[-1]
    for each in started:
        for process in each.processes:
            process.terminate()  # it ends its own process too
            process.wait(timeout=60)


def undisturbed(corpus, model):
    """Train in one process with the global batch of two, and return the weights."""
    command = [sys.executable, "-m", "mlm_recipes", "train", "--corpus", str(corpus)]
    values = flags(model=model, output_dir="plain", per_device_train_batch_size=8, save_strategy="no")
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, *values], env=env, check=True, timeout=400, capture_output=True)
    return load_file("plain/model.safetensors")


def assert_undisturbed(corpus, model):
    found = load_file("out/model.safetensors")
    assert max(float((found[name] - weight).abs().max()) for name, weight in undisturbed(corpus, model).items()) < 1e-6


def test_a_text_that_one_machine_lacks_ends_both(launched, short_text, tmp_path):
    both = launched([short_text, tmp_path / "elsewhere.txt"], "--nnodes", "2")
    assert both.end() == [1, 1]  # torchrun's own
    for host in (0, 1):
        (said,) = both.errors(host)
        assert said.startswith(f"mlm-recipes: error: process 1 on {socket.gethostname()}: corpus: there is no file")
        assert "exitcode  : 2" in both.said(host) or host == 1  # its launcher may find the store gone first
        assert "gloo/" not in both.said(host)


def test_a_frozen_process_ends_the_others_within_ddp_timeout(launched, short_text):
    both = launched([short_text] * 2, "--nnodes", "2", ddp_timeout=10, max_steps=50000)
    both.wait_for("checkpoint-40")
    frozen = both.worker(1)
    os.kill(frozen, signal.SIGSTOP)
    try:
        assert both.processes[0].wait(timeout=90) == 1
        assert "no answer from process 1 on" in both.errors(0)[0]
        assert len(both.errors(0)) == 1
    finally:
        os.kill(frozen, signal.SIGKILL)


def test_a_process_that_dies_costs_one_restart(launched, short_text, checkpoint):
    """The launchers then hold different counts of restarts; there is only one to spare."""
    both = launched([short_text] * 2, "--nnodes", "2", "--max-restarts", "1")
    both.wait_for("checkpoint-40")
    os.kill(both.worker(1), signal.SIGKILL)
    assert both.end() == [0, 0], both.said(0)
    assert both.said(0).count("was started before; resuming from") == 1
    assert_undisturbed(short_text, checkpoint)


def test_a_run_outlives_the_loss_of_a_machine(launched, short_text, checkpoint):
    both = launched(
        [short_text] * 2, "--nnodes", "1:2", "--max-restarts", "3", "--rdzv_conf", "last_call_timeout=3"
    )  # fmt: skip
    both.wait_for("checkpoint-40")
    worker = both.worker(1)
    both.processes[1].kill()
    os.kill(worker, signal.SIGKILL)
    assert both.end() == [0, -signal.SIGKILL], both.said(0)
    assert "1 process: gradient_accumulation_steps 2; the global batch of 8 is as before." in both.said(0)
    assert_undisturbed(short_text, checkpoint)
