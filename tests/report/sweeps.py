"""Journals of sweeps that never ran, of any size."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from pathlib import Path

from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    Event,
    FailedWorker,
    JobComposed,
    JobEnded,
    SweepBegan,
    WorkersFailed,
    WorkersStarted,
)

__all__ = ["BEGAN", "write_sweep"]

BEGAN = 1_790_000_000.0
"""When the sweeps begin, in seconds since the epoch."""

TRACEBACK = """\
Traceback (most recent call last):
  File "/home/ada/project/train.py", line 118, in main
    loss = model(batch).loss
  File "/home/ada/project/model.py", line 41, in forward
    return self.head(self.body(x) + skip)
RuntimeError: The size of tensor a (64) must match the size of tensor b (32) at non-singleton dimension 1
"""


def write_sweep(folder: Path, jobs: int, slots: int = 4, gpus: bool = True) -> Path:
    """Write the journal of a sweep over a learning rate, a width and an optimizer, some of whose jobs fail.

    Args:
        folder: the sweep's directory.
        jobs: how many there are.
        slots: how many run side by side.
        gpus: whether each of them holds a GPU.
    """
    folder.mkdir(parents=True)
    began = SweepBegan(
        time=BEGAN,
        pid=1,
        host="node7",
        task="train",
        command=["python", "train.py", "-m", "hydra/launcher=elastic", "lr=…", "width=…", "optimizer=adam,sgd"],
        dir=str(folder),
        maximize=False,
        versions={"python": "3.12.4", "torch": "2.13.0", "hydra-core": "1.3.2", "elastic_hydra": "0.1.0"},
        cpus=64,
        memory=512 << 30,
        gpu_names=["NVIDIA H200"] * slots if gpus else [],
    )
    draw = random.Random(0)
    events = [began, *_composed(folder, jobs, draw)]
    with open(folder / "journal.jsonl", "wb") as file:
        file.write(b"".join(map(encode, events)))
        config = {event.num: event.overrides for event in events if isinstance(event, JobComposed)}
        free = [(BEGAN + 0.5 + slot * 0.1, slot) for slot in range(slots)]
        ran: list[Event] = []
        for num in range(jobs):
            at, slot = heapq.heappop(free)
            ran += _run(num, config[num], at, [slot] if gpus else [], draw)
            heapq.heappush(free, (ran[-1].time + draw.uniform(0.05, 1.0), slot))
        file.write(b"".join(map(encode, sorted(ran, key=lambda event: event.time))))
    return folder


def _composed(folder: Path, jobs: int, draw: random.Random) -> Iterator[JobComposed]:
    for num in range(jobs):
        lr, width = 10 ** draw.uniform(-5, 0), draw.choice([64, 128, 256, 512])
        given = [f"lr={lr:.3g}", f"width={width}", f"optimizer={draw.choice(['adam', 'sgd'])}", "epochs=10"]
        config = "".join(f"{name}: {value}\n" for name, value in (text.split("=") for text in given))
        yield JobComposed(time=BEGAN, num=num, overrides=given, config=config, dir=str(folder / str(num)))


def _run(num: int, overrides: object, at: float, gpus: list[int], draw: random.Random) -> Iterator[Event]:
    """Yield what happens to a job from a moment on."""
    lr, width, optimizer = (text.partition("=")[2] for text in list(overrides)[:3])  # type: ignore[call-overload]
    fate, attempt, restarts = draw.random(), 0, 0
    yield AttemptStarted(time=at, num=num, attempt=0, gpus=gpus)
    yield WorkersStarted(time=(at := at + draw.uniform(0.3, 2.0)), num=num)
    if fate < 0.04:
        failure = FailedWorker(kind="signal", reason="rank 1 was killed by SIGKILL", rank=1, signal="SIGKILL")
        at, restarts = at + draw.uniform(2, 20), 1
        yield WorkersFailed(time=at, num=num, again=True, reason="restart 1 of 3", failure=failure)
        yield WorkersStarted(time=(at := at + 0.4), num=num)
    elif fate < 0.06:
        attempt, at = 1, at + draw.uniform(2, 20)
        yield AttemptLost(
            time=at, num=num, attempt=0, kind="agent", reason=f"its agent (pid {100 + num}) was lost: killed"
        )
        yield AttemptStarted(time=(at := at + 0.1), num=num, attempt=1, gpus=gpus)
        yield WorkersStarted(time=(at := at + draw.uniform(0.3, 2.0)), num=num, attempt=1)
    length = draw.uniform(5, 30) * (int(width) / 128) ** 0.5
    end = {"num": num, "attempts": attempt + 1, "restarts": restarts}
    if fate > 0.93:
        why = f"rank {num % 2} raised RuntimeError: The size of tensor a (64) must match the size of tensor b (32)"
        yield JobEnded(
            **{**end, "time": at + length / 5, "state": "failed", "kind": "exception", "reason": why},
            seconds=length / 5 + 2,
            traceback=TRACEBACK,
            log=f"/scratch/{num}/logs/restart_0/rank_{num % 2}/stderr.log",
        )
        return
    best = -2.5 if optimizer == "adam" else -1.2
    value = 0.2 + 0.08 * (math.log10(float(lr)) - best) ** 2 + 20 / int(width) + abs(draw.gauss(0, 0.03))
    yield JobEnded(**{**end, "time": at + length, "state": "finished", "reason": ""}, seconds=length + 2, value=value)
