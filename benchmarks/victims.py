"""Small training runs in processes of their own, to be killed, signalled, and started again.

They are forked from one that has imported everything, so that one costs a second and not ten.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, TrainerCallback, set_seed

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus, train_tokenizer
from mlm_recipes.checkpoints import storage

FORK = multiprocessing.get_context("fork")
STEPS, SAVE_STEPS = 6, 2

#: What a process may end with: its weights, an error, a stop that was asked for; a negative number is a signal.
FINISHED, FAILED, STOPPED = 0, 2, 75


class Progress(TrainerCallback):
    """Tell the process that watches how many steps are done, and when a checkpoint is begun."""

    def __init__(self, step: Any, act: Callable[[int, Any], None]) -> None:
        self.step, self.act = step, act

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.act(state.global_step + 1, model)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step.value = state.global_step


@dataclass
class Victim:
    """One run, of `ranks` processes, in `folder`."""

    folder: Path
    ranks: int = 1
    values: dict[str, Any] = field(default_factory=dict)
    processes: list[Any] = field(default_factory=list)
    started: float = 0.0

    def start(
        self,
        within: Callable[[int], None] = lambda rank: None,
        act: Callable[[int, int, Any], None] = lambda rank, step, model: None,
    ) -> Victim:
        """Start all processes. `within` is called first in each, `act` before each step."""
        port = _free_port()
        self.step = FORK.Value("i", 0)
        self.saving = FORK.Value("d", 0.0)  # since when a checkpoint is being written
        for rank in range(self.ranks):
            process = FORK.Process(target=self._run, args=(rank, port, within, act))
            process.start()
            self.processes.append(process)
        return self

    def _run(self, rank: int, port: int, within: Any, act: Any) -> None:
        if self.ranks > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(self.ranks)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(self.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(self.folder.with_name(f"{self.folder.name}-{rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        code = FAILED
        try:
            within(rank)
            train(self, rank, act)
            code = FINISHED
        except KeyboardInterrupt:
            code = STOPPED
        except (ValueError, OSError) as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            sys.stdout.flush()
            os._exit(code)  # not what this process was forked from has to do at its end

    def wait(self, seconds: float = 60.0) -> list[int | None]:
        """Return the exit code of each process; None where one hangs, which is then killed."""
        until = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, until - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
        return codes

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.processes[rank].pid, number)

    def result(self, rank: int = 0) -> str | None:
        """Return the weights that a process ended with, as a digest; None if it did not."""
        path = self.folder.with_name(f"{self.folder.name}-{rank}.weights")
        return path.read_text() if path.exists() else None

    def said(self, rank: int = 0) -> str:
        return self.folder.with_name(f"{self.folder.name}-{rank}.log").read_text("utf-8", errors="replace")


def setting() -> tuple[list[dict[str, Any]], Any]:
    """Return rows and tokenizer, made once."""
    global _SETTING
    if _SETTING is None:
        texts = load_corpus("meditations")["train"]["text"][:200]
        tokenizer = train_tokenizer(texts, vocab_size=500)
        # A bar holds a lock that forked processes share; one that is killed within would stop all that come after.
        transformers.utils.logging.disable_progress_bar()
        _SETTING = [dict(tokenizer(text, truncation=True, max_length=16)) for text in texts[:12]], tokenizer
    return _SETTING


_SETTING: tuple[list[dict[str, Any]], Any] | None = None


def train(victim: Victim, rank: int, act: Callable[[int, int, Any], None]) -> None:
    """Train a few steps, from the newest checkpoint in the folder if there is one; write down the weights' digest."""
    torch.set_num_threads(1)
    rows, tokenizer = setting()
    values = {
        "output_dir": str(victim.folder), "max_steps": STEPS, "save_steps": SAVE_STEPS, "save_total_limit": 2,
        "per_device_train_batch_size": 4 // victim.ranks, "learning_rate": 1e-3, "seed": 1, "mlm_probability": 0.4,
        "disable_tqdm": True, "use_cpu": True, "bf16": False, "ddp_find_unused_parameters": False,
    }  # fmt: skip
    set_seed(0)
    model = BertForMaskedLM(
        BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                   intermediate_size=64, max_position_embeddings=32)
    )  # fmt: skip
    trainer = Watched(model, args=MLMConfig(**(values | victim.values)), train_dataset=rows, processing_class=tokenizer)
    trainer.saving = victim.saving
    trainer.add_callback(Progress(victim.step, lambda step, model: act(rank, step, model)))
    trainer.train(resume_from_checkpoint=storage.newest_whole(victim.folder) is not None)
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    path = victim.folder.with_name(f"{victim.folder.name}-{rank}.weights")
    path.write_text(f"{digest.hexdigest()} skipped {trainer.skipped_steps}")


class Watched(MLMTrainer):
    """Say when a checkpoint is being written."""

    saving: Any = None

    def _save_checkpoint(self, *args: Any) -> None:
        self.saving.value = time.time()
        super()._save_checkpoint(*args)
        self.saving.value = 0.0


def kill_at(folder: Path, point: int) -> None:
    """Kill this process before its `point`-th call that opens, writes through, renames or removes below `folder`."""
    place = str(folder)

    def count(name: str) -> None:
        if place in name:
            count.done += 1  # type: ignore[attr-defined]
            if count.done == point:  # type: ignore[attr-defined]
                os.kill(os.getpid(), signal.SIGKILL)

    count.done = 0  # type: ignore[attr-defined]

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            count(os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else place)

    sys.addaudithook(audit)
    fsync, save = os.fsync, torch.save

    def counted_fsync(descriptor: int) -> None:
        count(place)
        fsync(descriptor)

    def counted_save(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        count(str(file))
        save(value, file, *args, **kwargs)
        count(str(file))

    os.fsync, torch.save = counted_fsync, counted_save


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
