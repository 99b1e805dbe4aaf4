"""Runs that are killed, signalled, starved of disk and fed NaN; and whether they went on to the same weights.

Each check counts what was tried and what went wrong; the JSON in benchmarks/results holds the counts, and any failure
in words. Some twenty minutes on two cores. strace, where it is installed, kills within the writes of libraries too.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from result_file import add_output_argument, result_path, write_result
from victims import FAILED, FINISHED, SAVE_STEPS, STEPS, STOPPED, Victim, kill_at, setting

from mlm_recipes.checkpoints import storage

Found = dict[str, Any]

#: What a kill is traced by where strace is there: what Python's own hooks do not see.
TRACED = ("write", "pwrite64", "fsync", "rename", "unlink", "unlinkat")


class Tally:
    """What was tried, and what went wrong, in words."""

    def __init__(self) -> None:
        self.tried = 0
        self.wrong: list[str] = []
        self.most_steps_lost = 0

    def check(self, fine: bool, otherwise: str) -> None:
        self.tried += 1
        if not fine:
            self.wrong.append(otherwise)
            print(f"  WRONG: {otherwise}", flush=True)

    def found(self, **more: Any) -> Found:
        return {"tried": self.tried, "wrong": self.wrong} | more


@cache
def undisturbed(ranks: int) -> str:
    """Return the weights that a run ends with that nothing happens to."""
    with tempfile.TemporaryDirectory() as folder:
        victim = Victim(Path(folder) / "undisturbed", ranks).start()
        assert victim.wait() == [FINISHED] * ranks, victim.said()
        return str(victim.result())


def after_a_kill(victim: Victim, expected: str, what: str, tally: Tally) -> None:
    """Check what a killed run has left, start it again, and compare what it ends with."""
    done = victim.step.value
    for path in storage.list_checkpoints(victim.folder):
        wrong = storage.fault(path)
        tally.check(wrong is None, f"{what}: {path.name} is there and {wrong}")
    newest = storage.newest_whole(victim.folder)
    lost = done - (int(newest.name.split("-")[1]) if newest else 0)
    tally.most_steps_lost = max(tally.most_steps_lost, lost)
    tally.check(lost <= SAVE_STEPS, f"{what}: {lost} steps lost")
    again = Victim(victim.folder, victim.ranks).start()
    codes = again.wait()
    tally.check(
        codes == [FINISHED] * victim.ranks, f"{what}: started again, it ended with {codes}: {again.said()[-300:]}"
    )
    tally.check(again.result() == expected, f"{what}: other weights")
    shutil.rmtree(victim.folder, ignore_errors=True)


def kills(root: Path, ranks: int, points: list[int], times: int, traced: bool) -> Found:
    """Kill one process of a run at points of its saves and at random moments of them; start it again."""
    tally, expected, number = Tally(), undisturbed(ranks), 0
    chance = random.Random(ranks)

    def one(what: str, start: Callable[[Victim], None]) -> None:
        nonlocal number
        number += 1
        victim = Victim(root / f"killed-{ranks}-{number}", ranks)
        began = time.monotonic()
        start(victim)
        codes = victim.wait(30)
        tally.check(None not in codes, f"{what}: {codes.count(None)} of {ranks} processes hang")
        after_a_kill(victim, expected, f"{what} ({time.monotonic() - began:.0f} s)", tally)

    for point in points:
        rank = point % ranks if point % 3 == 0 else 0  # the other process has fewer such calls

        def at_point(victim: Victim, point: int = point, rank: int = rank) -> None:
            victim.start(lambda mine: kill_at(victim.folder, point) if mine == rank else None)

        one(f"call {point} of rank {rank}", at_point)
    for _ in range(times):
        save, delay, rank = chance.randint(1, STEPS // SAVE_STEPS), chance.uniform(0, 0.06), chance.randrange(ranks)

        def at_random(victim: Victim, save: int = save, delay: float = delay, rank: int = rank) -> None:
            victim.start()
            begun = 0
            while begun < save and victim.processes[rank].is_alive():
                if victim.saving.value:
                    begun += 1
                    if begun < save:
                        while victim.saving.value and victim.processes[rank].is_alive():
                            time.sleep(0.0005)
                time.sleep(0.0005)
            time.sleep(delay)
            victim.kill(rank)

        one(f"{delay * 1000:.0f} ms into save {save}, rank {rank}", at_random)
    at_calls = number
    for call in TRACED if traced and shutil.which("strace") else ():
        for which in range(1, 1000):

            def by_strace(victim: Victim, call: str = call, which: int = which) -> None:
                ready, go = os.pipe()
                victim.start(lambda rank: os.read(ready, 1) and None)
                pid = str(victim.processes[0].pid)
                command = ["strace", "-f", "-qq", "-o", str(root / "trace"), "-p", pid, "-e", f"trace={call}"]
                with subprocess.Popen([*command, "-e", f"inject={call}:signal=KILL:when={which}"]) as tracer:
                    while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
                        time.sleep(0.01)
                    os.write(go, b"x")
                    victim.processes[0].join(30)
                    tracer.wait(10)
                os.close(ready)
                os.close(go)

            before = tally.tried
            victim_count = number
            one(f"system call {call} {which}", by_strace)
            assert (before, victim_count) < (tally.tried, number)
            trace = (root / "trace").read_text()
            if "killed by SIGKILL" not in trace:
                break  # it had fewer such calls, and came to its end
    return tally.found(
        kills=number, of_them_at_system_calls=number - at_calls, resumed_to_the_same_weights=not tally.wrong,
        most_steps_lost=tally.most_steps_lost, save_steps=SAVE_STEPS,
    )  # fmt: skip


def damage(root: Path, flips: int) -> Found:
    """Remove, cut and change every file of a checkpoint; each must be noticed, and the checkpoint before be taken."""
    tally, chance = Tally(), random.Random(0)
    run = root / "damaged"
    assert Victim(run).start().wait() == [FINISHED]
    before, newest = storage.list_checkpoints(run)
    for path in sorted(newest.iterdir()):
        content = path.read_bytes()
        changes = {"removed": None, "cut to half": content[: len(content) // 2], "cut by a byte": content[:-1]}
        for _ in range(flips if content else 0):
            bit = chance.randrange(8 * len(content))
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            changes[f"bit {bit} flipped"] = bytes(flipped)
        for how, changed in changes.items():
            path.unlink() if changed is None else path.write_bytes(changed)
            tally.check(storage.fault(newest) is not None, f"{path.name} {how}: not noticed")
            tally.check(storage.newest_whole(run) == before, f"{path.name} {how}: the one before is not taken")
            path.write_bytes(content)
    tally.check(storage.newest_whole(run) == newest, "put back as it was, it is not whole")
    return tally.found(files=len(list(newest.iterdir())))


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[bool]:
    """Mount a file system of that size at `place`; say whether that could be done (root may)."""
    place.mkdir(parents=True)
    mount = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run([shutil.which("umount") or "umount", str(place)], check=True)


def full_disk(root: Path, sizes: list[int]) -> Found:
    """Let the disk be full in a save; the run must end in a sentence, the checkpoint before be whole."""
    tally, expected, disks = Tally(), undisturbed(1), 0
    for kilobytes in sizes:
        place = root / f"disk-{kilobytes}"
        with small_disk(place, kilobytes) as mounted:
            if not mounted:
                break
            disks += 1
            victim = Victim(place / "run", values={"save_total_limit": 99}).start()
            codes = victim.wait()
            _check_stopped(victim, codes, f"a disk of {kilobytes} KB", tally)
            elsewhere = root / f"moved-{kilobytes}"
            shutil.copytree(place / "run", elsewhere)
        _check_goes_on(elsewhere, expected, f"a disk of {kilobytes} KB", tally)
    for kilobytes in sizes:
        limit = kilobytes << 8

        def less(rank: int, step: int, model: Any, limit: int = limit) -> None:
            if step == 2 * SAVE_STEPS:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        victim = Victim(root / f"limit-{kilobytes}").start(act=less)
        codes = victim.wait()
        _check_stopped(victim, codes, f"files of at most {limit} bytes", tally)
        _check_goes_on(victim.folder, expected, f"files of at most {limit} bytes", tally)
    return tally.found(disks=disks, file_size_limits=len(sizes))


def _check_stopped(victim: Victim, codes: list[int | None], what: str, tally: Tally) -> None:
    if codes == [FINISHED]:
        return  # there was room
    said = victim.said()
    fine = codes == [FAILED] and "could not be written" in said and "bytes" in said and "Traceback" not in said
    tally.check(fine, f"{what}: ended with {codes}: {said[-300:]}")
    whole = all(storage.fault(path) is None for path in storage.list_checkpoints(victim.folder))
    tally.check(whole, f"{what}: a checkpoint is damaged")
    tally.check(not (victim.folder / storage.STAGED).exists(), f"{what}: a torn checkpoint fills the disk")


def _check_goes_on(folder: Path, expected: str, what: str, tally: Tally) -> None:
    again = Victim(folder).start()
    tally.check(again.wait() == [FINISHED], f"{what}: with room again, it does not go on: {again.said()[-300:]}")
    tally.check(again.result() == expected, f"{what}: other weights")


def not_finite(root: Path, quick: bool = False) -> Found:
    """Give one process of one or two a NaN: all stop before the update, or all leave the step out."""
    tally = Tally()
    for ranks in (2,) if quick else (1, 2):
        for sick in (1,) if quick else range(ranks):
            for value in (torch.inf,) if quick else (torch.nan, torch.inf):

                def spoil(rank: int, step: int, model: Any, sick: int = sick, value: float = value) -> None:
                    if rank == sick and step == 4:
                        handle = model.register_forward_hook(
                            lambda module, given, out: (handle.remove(), out["logits"].add_(value))[0]
                        )

                what = f"{value} in rank {sick} of {ranks}"
                victim = Victim(root / f"stop-{ranks}-{sick}-{value}", ranks).start(act=spoil)
                codes = victim.wait()
                tally.check(codes == [FAILED] * ranks, f"{what}: ended with {codes}")
                for rank in range(ranks):
                    names = f"at step 4 .*in process {sick} .example_id"
                    tally.check(bool(re.search(names, victim.said(rank))), f"{what}: rank {rank} does not name it")
                newest = storage.newest_whole(victim.folder)
                tally.check(
                    newest is not None and newest.name == "checkpoint-2", f"{what}: the last good one is {newest}"
                )
                if quick:
                    continue
                skipping = Victim(root / f"skip-{ranks}-{sick}-{value}", ranks, {"on_nonfinite": "skip"}).start(
                    act=spoil
                )
                codes = skipping.wait()
                tally.check(codes == [FINISHED] * ranks, f"{what}, skipped: ended with {codes}")
                results = {skipping.result(rank) for rank in range(ranks)}
                tally.check(len(results) == 1, f"{what}, skipped: the processes have different weights")
                tally.check("skipped [4]" in str(results), f"{what}, skipped: not counted")
    return tally.found()


def signals(root: Path, quick: bool = False) -> Found:
    """Signal each process, or all: they save and end together, and the run goes on to the same weights."""
    tally, slowest = Tally(), 0.0
    for ranks in (2,) if quick else (1, 2):
        expected = undisturbed(ranks)
        for number in (signal.SIGTERM,) if quick else (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            for to in (1,) if quick else [*range(ranks), "all"]:
                what = f"{number.name} to {'all' if to == 'all' else f'rank {to}'} of {ranks}"
                victim = Victim(root / f"signal-{ranks}-{number.name}-{to}", ranks)

                def slowly(rank: int, step: int, model: Any) -> None:
                    time.sleep(0.1)

                victim.start(act=slowly)
                while victim.step.value < 3:
                    time.sleep(0.005)
                sent = time.monotonic()
                for rank in range(ranks):
                    if to in (rank, "all"):
                        victim.kill(rank, number)
                codes = victim.wait()
                slowest = max(slowest, time.monotonic() - sent)
                tally.check(codes == [STOPPED] * ranks, f"{what}: ended with {codes}: {victim.said()[-300:]}")
                newest = storage.newest_whole(victim.folder)
                tally.check(newest is not None and newest.name >= "checkpoint-3", f"{what}: saved {newest}")
                after = Victim(victim.folder, ranks).start()
                tally.check(after.wait() == [FINISHED] * ranks, f"{what}: does not go on")
                tally.check(after.result() == expected, f"{what}: other weights")
    return tally.found(slowest_end_s=round(slowest, 2))


def torchrun(*options: str) -> list[str]:
    """Return the command that starts two processes."""
    rendezvous = ["--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    return [sys.executable, "-m", "torch.distributed.run", *rendezvous, *options, "-m", "mlm_recipes", "train"]


#: A run of the command line that takes its time: a step of a tenth of a second.
SMALL = ["quickstart", "--save_strategy", "steps", "--save_steps", "3", "--max_steps", "12", "--max_length", "64",
         "--bf16", "false", "--general_corpus", "none"]  # fmt: skip


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the pids of torchrun's own processes."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"mlm_recipes" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _until_checkpoint(folder: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not any(
        int(path.name.split("-")[1]) >= step for path in storage.list_checkpoints(folder)
    ):
        time.sleep(0.02)


def restarts(root: Path, times: int) -> Found:
    """Kill a process of `torchrun --max-restarts 3` at random; the model at the end is that of an undisturbed run."""
    tally, chance = Tally(), random.Random(1)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    root.mkdir(parents=True, exist_ok=True)
    log = (root / "torchrun.log").open("ab")
    whole = root / "whole"
    subprocess.run(
        [*torchrun(), *SMALL, "--output_dir", str(whole)], check=True, env=environment, stdout=log, stderr=log
    )
    expected = (whole / "model.safetensors").read_bytes()
    killed = 0
    for trial in range(times):
        folder = root / f"restarted-{trial}"
        command = [*torchrun("--max-restarts", "3"), *SMALL, "--output_dir", str(folder)]
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
            for step in sorted(chance.sample((3, 6, 9), k=2)):
                _until_checkpoint(folder, step, process)
                time.sleep(chance.uniform(0, 0.6))
                workers = _workers(process)
                if workers:
                    with suppress(ProcessLookupError):
                        os.kill(chance.choice(workers), signal.SIGKILL)
                        killed += 1
            code = process.wait(300)
        tally.check(code == 0, f"trial {trial}: torchrun ended with {code}")
        model = folder / "model.safetensors"
        tally.check(model.is_file() and model.read_bytes() == expected, f"trial {trial}: other weights")
    return tally.found(kills=killed)


def signals_to_torchrun(root: Path) -> Found:
    """Signal torchrun itself, and its whole process group as a terminal does."""
    tally, slowest = Tally(), 0.0
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    root.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        for group in (False, True):
            what = f"{number.name} to torchrun{' and its processes' if group else ''}"
            folder = root / f"{number.name}-{group}"
            log = (root / f"{number.name}-{group}.log").open("wb")
            command = [*torchrun(), *SMALL, "--output_dir", str(folder)]
            with subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True) as process:
                _until_checkpoint(folder, 3, process)
                sent = time.monotonic()
                os.killpg(process.pid, number) if group else os.kill(process.pid, number)
                process.wait(60)
                slowest = max(slowest, time.monotonic() - sent)
            said = Path(log.name).read_text("utf-8", errors="replace")
            saved = re.search(rf"stopped by {number.name}, after saving \S*checkpoint-(\d+)", said)
            tally.check(saved is not None, f"{what}: {said[-300:]}")
            newest = storage.newest_whole(folder)
            fine = saved is not None and newest is not None and newest.name == f"checkpoint-{saved[1]}"
            tally.check(fine, f"{what}: the newest is {newest}")
    return tally.found(slowest_end_s=round(slowest, 2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="the checks to run, by name; today's JSON keeps those of the others")
    parser.add_argument("--quick", action="store_true", help="a few of each; writes no JSON")
    add_output_argument(parser)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts in the background ignore it
    logging.getLogger("mlm_recipes").setLevel(logging.ERROR)  # each checkpoint passed over is said otherwise
    setting()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checks: dict[str, Callable[[], Found]] = {
            "kills_one_process": lambda: kills(root / "a", 1, list(range(1, 110, 2)), 40, traced=True),
            "kills_two_processes": lambda: kills(root / "b", 2, list(range(2, 110, 4)), 30, traced=False),
            "damage": lambda: damage(root / "c", 20),
            "full_disk": lambda: full_disk(root / "d", [100, 300, 400, 600, 700, 800, 1000, 1200, 1600]),
            "not_finite": lambda: not_finite(root / "e"),
            "signals": lambda: signals(root / "f"),
            "signals_to_torchrun": lambda: signals_to_torchrun(root / "g"),
            "restarts": lambda: restarts(root / "h", 4),
        }
        if options.quick:
            checks = {
                "kills_one_process": lambda: kills(root / "a", 1, [55], 1, traced=False),
                "kills_two_processes": lambda: kills(root / "b", 2, [60], 0, traced=False),
                "not_finite": lambda: not_finite(root / "e", quick=True),
                "signals": lambda: signals(root / "f", quick=True),
            }
        measured: dict[str, Any] = {}
        for name in options.only or checks:
            print(name, flush=True)
            started = time.monotonic()
            measured[name] = checks[name]() | {"seconds": round(time.monotonic() - started, 1)}
            print(f"  {measured[name]}", flush=True)
    if not options.quick:
        there = result_path(options.output, "torture")
        before = json.loads(there.read_text("utf-8")) if options.only and there.exists() else {}
        write_result(options.output, "torture", {name: before[name] for name in checks if name in before} | measured)
    return 1 if any(found["wrong"] for found in measured.values()) else 0


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    sys.exit(main())
