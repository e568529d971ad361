"""Scripts that launch what they define themselves, as users write them: with a guard around main, and without."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from elastic_hydra.supervisor.main_module import MainModule
from tests.helpers.launching import script

pytestmark = pytest.mark.system

SOURCE = """
    import functools, os, sys, threading
    from dataclasses import dataclass
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from elastic_hydra import LaunchConfig, elastic_launch

    OFFSET = 10

    @dataclass
    class Result:
        value: int

    class Mistake(Exception):
        def __init__(self, code, where):
            super().__init__(f"{code} in {where}")
            self.code = code

    class Trainer:
        def __init__(self, number):
            self.number = number

        def train(self):
            return Result(self.number + OFFSET + int(os.environ["RANK"]))

        def __call__(self):
            return self.train()

    def fail():
        raise Mistake(7, "training")

    def main():
        print("main runs", flush=True)
        config = LaunchConfig(1, 1, 2, start_method=sys.argv[1], max_restarts=0)
        trainer = Trainer(1)
        entrypoints = [lambda: trainer.train(), trainer, trainer.train, functools.partial(Trainer.train, trainer)]
        for entrypoint in entrypoints if sys.argv[1] == "warm" else entrypoints[:1]:
            results = elastic_launch(config, entrypoint)()
            assert [type(result) for result in results.values()] == [Result, Result]
            assert results == {0: Result(11), 1: Result(12)}, results
        try:
            elastic_launch(config, fail)()
            raise AssertionError
        except ChildFailedError as error:
            assert type(error.__cause__) is Mistake, repr(error.__cause__)
            assert error.__cause__.code == 7
        print("main ends", flush=True)
"""
GUARDED = SOURCE + '\n    if __name__ == "__main__":\n        main()\n'
UNGUARDED = SOURCE + "\n    main()\n"


@pytest.mark.parametrize(
    ("source", "start_method"),
    [(GUARDED, "warm"), (UNGUARDED, "warm"), (GUARDED, "forkserver"), (UNGUARDED, "forkserver"), (UNGUARDED, "spawn")],
)
def test_a_script_launches_its_own_functions_and_classes(source: str, start_method: str, tmp_path: Path) -> None:
    with script(tmp_path, source, start_method) as started:
        first, *others, last = started.output(180).splitlines()
        assert (first, last) == ("main runs", "main ends"), started.stderr
        # Without a guard, new interpreters run it as far as the launch.
        assert set(others) <= ({"main runs"} if source is UNGUARDED and start_method != "warm" else set())
        assert started.process.returncode == 0


BEHIND_THE_GUARD = """
    import sys
    from elastic_hydra import LaunchConfig, elastic_launch

    OFFSET = 10
    print("executed", flush=True)

    if __name__ == "__main__":
        print("behind the guard", flush=True)
        factor = 2
        OFFSET = 20

        class Result:
            def __init__(self, value):
                self.value = value

        def work(number):
            return Result(factor * number + OFFSET)

        config = LaunchConfig(1, 1, 1, start_method=sys.argv[1], max_restarts=0)
        result = elastic_launch(config, work)(1)[0]
        print(type(result) is Result, result.value)
"""


@pytest.mark.parametrize("start_method", ["warm", "forkserver", "spawn"])
def test_what_is_defined_behind_a_guard_is_launched_and_nothing_there_is_executed_twice(
    start_method: str, tmp_path: Path
) -> None:
    with script(tmp_path, BEHIND_THE_GUARD, start_method) as started:
        lines = started.output(180).splitlines()
    assert [line for line in lines if line != "executed"] == ["behind the guard", "True 22"], started.stderr


WITHOUT_A_GUARD = """
    import sys
    from elastic_hydra import LaunchConfig, elastic_launch

    def work():
        return sys.argv[2:], __name__, __file__ == sys.modules["__main__"].__file__

    def main():
        print(elastic_launch(LaunchConfig(1, 1, 1, start_method=sys.argv[1], max_restarts=0), work)()[0])
        return 3

    try:
        sys.exit(main())
    finally:
        sys.modules.setdefault("ended", None)
"""


@pytest.mark.parametrize("start_method", ["warm", "forkserver", "spawn"])
def test_a_script_without_a_guard_launches_once_and_its_workers_have_its_arguments(
    start_method: str, tmp_path: Path
) -> None:
    with script(tmp_path, WITHOUT_A_GUARD, start_method, "--lr", "0.1") as started:
        assert started.output(180) == "(['--lr', '0.1'], '__main__', True)\n", started.stderr
        assert started.process.returncode == 3


IN_A_NOTEBOOK = """
    import sys
    from dataclasses import dataclass
    from elastic_hydra import LaunchConfig, elastic_launch

    @dataclass
    class Result:
        value: int

    def work():
        return Result(3)

    for start_method in ("warm", "forkserver", "spawn"):
        result = elastic_launch(LaunchConfig(1, 1, 1, start_method=start_method, max_restarts=0), work)()[0]
        print(type(result).__name__, result.value)
"""


@pytest.mark.smoke
def test_code_that_is_in_no_file_is_launched(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-"], input=textwrap.dedent(IN_A_NOTEBOOK), cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.stdout == "Result 3\n" * 3, ended.stderr


@pytest.mark.smoke
def test_a_failed_script_shows_the_workers_traceback(tmp_path: Path) -> None:
    source = SOURCE + "\n    elastic_launch(LaunchConfig(1, 1, 1, start_method='warm', max_restarts=0), fail)()\n"
    with script(tmp_path, source) as started:
        assert started.output() == ""
        assert started.process.returncode == 1
        assert "raise Mistake(7" in started.stderr
        assert "fail FAILED" in started.stderr


def test_ctrl_c_is_a_keyboard_interrupt_again_after_a_launch(tmp_path: Path) -> None:
    source = """
        import os, signal
        from elastic_hydra import LaunchConfig, elastic_launch
        elastic_launch(LaunchConfig(1, 1, 1, start_method="warm"), os.getpid)()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
    """
    with script(tmp_path, source) as started:
        assert started.output() == "KeyboardInterrupt\n", started.stderr


def test_threads_that_launch_at_once_look_into_the_script_at_once(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("".join(f"name{i} = [({i}, [{i}, ({i},)])]\n" for i in range(300)))

    def give_way(*_: object) -> None:  # Python's code, called by the collector: another thread may go on meanwhile
        time.sleep(0)

    gc.callbacks.append(give_way)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: MainModule(str(path), None, False).defined(), range(40)))
    finally:
        gc.callbacks.remove(give_way)
    assert {len(names) for names in found} == {300}
