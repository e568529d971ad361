"""Scripts that launch what they define themselves, as users write them: with a guard around main, and without."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import script

SOURCE = """
    import functools, os, sys, threading
    from dataclasses import dataclass
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from elastic_hydra import LaunchConfig, elastic_launch

    print("main runs", flush=True)
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
        assert started.output(180).splitlines() == ["main runs", "main ends"], started.stderr
        assert started.process.returncode == 0


def test_a_failed_script_shows_the_workers_traceback(tmp_path: Path) -> None:
    source = SOURCE + "\n    elastic_launch(LaunchConfig(1, 1, 1, start_method='warm', max_restarts=0), fail)()\n"
    with script(tmp_path, source) as started:
        assert started.output().splitlines() == ["main runs"]
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
