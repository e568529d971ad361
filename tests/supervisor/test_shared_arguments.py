"""Arguments that are shared with the workers, not copied for them, as with torch's launcher."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.launching import script

pytestmark = pytest.mark.system

SOURCE = """
    import os, sys
    import torch
    import torch.multiprocessing
    from elastic_hydra import LaunchConfig, elastic_launch

    def work(shared, values, event, tensor):
        rank = int(os.environ["RANK"])
        shared["queue"].put(rank)
        (total, lock), sender = values
        with lock:
            total.value += 1
        sender.send(rank)
        event.wait()
        tensor[rank] = rank + 1

    if __name__ == "__main__":
        start_method, of_context = sys.argv[1:]
        context = torch.multiprocessing.get_context(of_context)
        queue, lock, total, event = context.Queue(), context.Lock(), context.Value("i", 0), context.Event()
        receiver, sender = context.Pipe(duplex=True)
        tensor = torch.zeros(2).share_memory_()
        event.set()
        config = LaunchConfig(1, 1, 2, start_method=start_method, max_restarts=0)
        elastic_launch(config, work)({"queue": queue}, [(total, lock), sender], event, tensor)
        received = sorted(receiver.recv() for _ in range(2))
        print(sorted(queue.get() for _ in range(2)), received, total.value, tensor.tolist())
"""


@pytest.mark.parametrize(
    ("start_method", "context"),
    [("warm", "fork"), ("fork", "spawn"), ("forkserver", "forkserver"), ("spawn", "spawn")],
)
def test_queues_locks_pipes_and_tensors_are_shared(start_method: str, context: str, tmp_path: Path) -> None:
    with script(tmp_path, SOURCE, start_method, context) as started:
        assert started.output(120) == "[0, 1] [0, 1] 2 [1.0, 2.0]\n", started.stderr
        assert "leaked" not in started.stderr


REFUSED = """
    import multiprocessing
    from elastic_hydra import LaunchConfig, elastic_launch

    if __name__ == "__main__":
        lock = multiprocessing.get_context("fork").Lock()
        elastic_launch(LaunchConfig(1, 1, 1, start_method="spawn", max_restarts=0), print)(lock)
"""


def test_a_lock_of_forks_is_refused_by_new_interpreters(tmp_path: Path) -> None:
    with script(tmp_path, REFUSED) as started:
        assert started.output() == ""
        assert "created in a fork context" in started.stderr
