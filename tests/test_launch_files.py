"""The launch files in recipes/ are understood by what reads them, and a job under SLURM goes on after interruptions."""

from __future__ import annotations

import re
import signal
import socket
import subprocess

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from conftest import ROOT, make_bert
from safetensors.torch import load_file
from slurm_simulation import SCRIPT, TASKS, Queue, directives

from mlm_recipes import MLMConfig
from mlm_recipes.training.config import field_names
from mlm_recipes.training.distributed.launcher import asked_sharding, take_over

SKY = ROOT / "recipes/skypilot/train.yaml"


def launched(name, *more):
    """What accelerate would put into the environment of the processes that a launch file starts."""
    command = ["--config_file", str(ROOT / f"recipes/accelerate/{name}.yaml"), *more, "-m", "mlm_recipes", "train"]
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        return arguments, prepare_deepspeed_cmd_env(arguments)[1]
    return arguments, prepare_multi_gpu_env(arguments)


@pytest.fixture(autouse=True)
def _ports_are_free(monkeypatch):
    """accelerate looks whether its port is in use, and another program on this machine may use it."""
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)


@pytest.mark.parametrize(("name", "kind"), [("fsdp2", "FSDP"), ("multi_node", None)])
def test_an_accelerate_file_asks_for_what_it_says_and_this_library_takes_it(name, kind, monkeypatch):
    arguments, environment = launched(name)
    assert arguments.module
    config = MLMConfig(use_cpu=True, output_dir="unused")
    for key, value in environment.items():
        if key.startswith(("ACCELERATE_", "FSDP_", "PARALLELISM_")):
            monkeypatch.setenv(key, value)
    assert asked_sharding(config) == kind
    take_over(config)  # nothing is refused, and precision stays the recipe's
    assert (config.bf16, config.fp16, config.gradient_accumulation_steps) == (False, False, 1)


def test_the_accelerate_files_have_the_values_that_matter():
    _, environment = launched("fsdp2")
    assert environment["FSDP_VERSION"] == "2"
    assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    assert environment["FSDP_RESHARD_AFTER_FORWARD"] == "true"
    for rank in ("0", "1"):
        arguments, _ = launched("multi_node", "--machine_rank", rank)
        # what becomes of them is torchrun's: two nodes of eight, the first one's address, this node's number
        assert (arguments.nnodes, arguments.nproc_per_node, arguments.node_rank) == ("2", "8", int(rank))
        assert (arguments.rdzv_backend, arguments.rdzv_endpoint) == ("static", "10.0.0.1:29500")


def test_the_slurm_script_is_one_that_bash_and_sbatch_read():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    found = directives()
    assert SCRIPT.read_text("utf-8").startswith("#!/bin/bash\n")  # sbatch refuses a script without it
    form = {
        "job-name": r"[\w-]+", "nodes": r"\d+", "gpus-per-node": r"\d+", "ntasks-per-node": r"\d+",
        "cpus-per-task": r"\d+", "time": r"\d\d:\d\d:\d\d", "signal": r"USR1@\d+", "requeue": "",
        "open-mode": "append", "output": r"[\w-]+%j\.log",
    }  # fmt: skip
    assert found.keys() == form.keys()
    for name, value in found.items():
        assert re.fullmatch(form[name], value), name
    assert found["gpus-per-node"] == found["ntasks-per-node"]  # a process for each GPU
    lines = SCRIPT.read_text("utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])  # sbatch reads none after the first command


def test_the_slurm_script_wants_to_know_the_runs_folder(tmp_path):
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode != 0
    assert "OUT: is the folder of the run" in done.stderr


def test_the_skypilot_file_is_a_task_with_a_bucket():
    task = yaml.safe_load(SKY.read_text("utf-8"))
    assert task.keys() == {"name", "num_nodes", "resources", "envs", "file_mounts", "workdir", "setup", "run"}
    assert task["resources"].keys() == {"accelerators", "use_spot", "job_recovery"}
    (mount,) = task["file_mounts"].items()
    assert mount[0] == "/runs"
    assert mount[1].keys() == {"name", "store", "mode"}
    assert '--output_dir "/runs/' in task["run"]
    for part in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=task[part], text=True, check=True)


@pytest.mark.parametrize("path", [SCRIPT, SKY], ids=["slurm", "skypilot"])
def test_the_flags_of_a_launch_file_are_options_of_train(path):
    text = re.sub(r"^\s*#.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
    given = re.sub(r"\\\n", " ", text).split("train ", 1)[1].splitlines()[0]
    flags = re.findall(r"--([\w-]+)", given)
    assert flags
    assert set(flags) <= set(field_names())


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def disturbances():
    """Signals to every task, as SLURM sends before the time limit, and the loss of one task."""
    return [(signal.SIGUSR1, True), (signal.SIGKILL, False), (signal.SIGUSR1, True)]


@pytest.mark.slow
def test_under_slurm_a_disturbed_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path, tokenizer, corpus):
    model = tmp_path / "model"
    make_bert(tokenizer).save_pretrained(model)
    tokenizer.save_pretrained(model)
    text = tmp_path / "notes.txt"
    text.write_text("\n".join(corpus["train"]["text"][:60]) + "\n")
    plan = disturbances()
    arguments = [
        "adapt", f"--model={model}", f"--corpus={text}", "--use_cpu=true", f"--max_steps={40 + 12 * len(plan)}",
        "--per_device_train_batch_size=4", "--max_length=32", "--save_strategy=steps", "--save_steps=2",
        "--save_total_limit=2", "--general_corpus=none", "--logging_steps=5", "--max_eval_samples=6",
    ]  # fmt: skip
    whole = Queue(tmp_path / "undisturbed", tmp_path / "whole", arguments, free_port())
    start = whole.start()
    assert (start.code, start.requeued) == (0, False), start.log
    queue = Queue(tmp_path / "queue", tmp_path / "run", arguments, free_port())
    for send, to_all in plan:
        start = queue.start(send, to_all)
        assert start.requeued, start.log
        assert (start.code == 75) == (send == signal.SIGUSR1), start.log
    for _ in range(2):  # to its end, and once more
        start = queue.start()
        assert (start.code, start.requeued) == (0, False), start.log
    assert "holds this run, finished: nothing is left to train." in start.log
    one, other = (load_file(folder / "model.safetensors") for folder in (whole.run, queue.run))
    assert one.keys() == other.keys()
    assert max(float((one[name] - other[name]).abs().max()) for name in one) == 0.0
    assert TASKS == 2


@pytest.mark.slow
def test_under_slurm_an_error_is_not_started_again(tmp_path):
    """Neither one that a person has to mend, nor a process that dies before the run gets any further."""
    arguments = ["adapt", "--model=./nothing", "--corpus=meditations"]
    queue = Queue(tmp_path / "queue", tmp_path / "run", arguments, free_port())
    start = queue.start()
    assert (start.code, start.requeued) == (2, False), start.log
    (tmp_path / "queue/bin/mlm-recipes").write_text("#!/bin/bash\nexit 137\n")
    start = queue.start()
    assert (start.code, start.requeued) == (137, False), start.log
    assert "no checkpoint since the start: not started again" in start.log
