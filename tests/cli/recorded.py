"""Sweeps as their journals record them."""

from __future__ import annotations

from pathlib import Path

from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import Event, JobComposed, SweepBegan

__all__ = ["composed", "record"]


def composed(folder: Path, num: int, *overrides: str) -> JobComposed:
    """Return the event of a job whose directory has its number."""
    return JobComposed(time=1000.0, num=num, overrides=overrides, config="", dir=str(folder / str(num)))


def record(folder: Path, *events: Event, begin: bool = True) -> Path:
    """Write the journal of a sweep whose launcher is dead, and return its directory."""
    folder.mkdir(parents=True, exist_ok=True)
    began = SweepBegan(time=1000.0, pid=1, host="node", command=["python", "train.py", "-m", "lr=1,2"], dir=str(folder))
    with open(folder / "journal.jsonl", "ab") as file:
        file.write(b"".join(encode(event) for event in ((began, *events) if begin else events)))
    return folder
