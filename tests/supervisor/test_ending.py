"""A worker ends as its own interpreter would: what torchrun's workers leave behind, ours leave behind, too."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.helpers.launching import script

pytestmark = pytest.mark.system

APP = """
    import atexit, gc, gzip, io, logging, logging.handlers, os, sys, tempfile, threading, time, weakref, zipfile
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    FOLDER, HOW, KIND = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

    def is_worker():
        return "RANK" in os.environ

    def say(name, text):
        if is_worker():
            (FOLDER / name).write_text(text)

    atexit.register(lambda: say("exit function of the module", "has run"))

    # --- made at import: with ours, in the launcher, too

    SHARED = tempfile.TemporaryDirectory(dir=FOLDER)
    HELD, NAMES, EARLY = [], {}, (FOLDER / "opened at import.txt").open("a")
    EARLY.write("import\\n" if HOW in ("torchrun", "warm") else "")
    RECORDS = logging.handlers.MemoryHandler(100, target=logging.FileHandler(FOLDER / "memory.log", delay=True))

    class Ring:
        pass

    class Finalized:
        def __init__(self, name):
            self.name = name

        def __del__(self):
            say(self.name, os.path.basename(self.name))

    class Thing:
        pass

    KEEP = Finalized("made at import, finalized")
    THING = Thing()

    def uploads():
        time.sleep(0.3)
        say("thread", "done")

    def suspended():
        try:
            yield
        finally:
            say("generator", "closed")

    def main():
        assert os.path.isdir(SHARED.name)
        HELD.append((FOLDER / "global.txt").open("w"))
        HELD[0].write("data")
        globals()["BINARY"] = (FOLDER / "binary").open("wb")
        BINARY.write(b"data")
        if HOW != "torchrun":
            gc.disable()  # a collection that happens to come before the end loses the data of a file in a cycle
        ring = Ring()
        ring.file, ring.ring = (FOLDER / "cycle.txt").open("w"), ring
        ring.file.write("data")
        del ring
        THING.file = (FOLDER / "attribute.txt").open("w")
        THING.file.write("data")
        NAMES["zip"] = gzip.open(FOLDER / "text.gz", "wt")
        NAMES["zip"].write("data")
        NAMES["archive"] = zipfile.ZipFile(FOLDER / "archive.zip", "w")
        NAMES["archive"].writestr("name", "data")
        HELD.append(gzip.GzipFile(fileobj=(FOLDER / "over.gz").open("wb"), mode="wb", filename="", mtime=0))
        HELD[1].write(b"data")
        EARLY.write("worker\\n")
        log = logging.getLogger("app")
        log.addHandler(RECORDS)
        log.error("recorded")
        own = tempfile.TemporaryDirectory(dir=FOLDER)
        HELD.append(own)
        HELD.append(tempfile.NamedTemporaryFile(dir=FOLDER))
        weakref.finalize(THING, say, "weakref", "finalized")
        atexit.register(say, "exit function of main", "has run")
        HELD.append(Finalized("global"))
        Thing.kept = Finalized("of a class")
        NAMES["generator"] = suspended()
        next(NAMES["generator"])
        threading.Thread(target=uploads).start()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        pool = ThreadPoolExecutor()
        pool.submit(lambda: (time.sleep(0.2), say("pool", "done")))
        local = (FOLDER / "local.txt").open("w")
        local.write("data")
        if KIND == "fails":
            raise ValueError("failed")
        if KIND == "exits":
            sys.exit(3)

    if __name__ == "__main__":
        if is_worker() or HOW == "torchrun":
            main()
        else:
            from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
            from elastic_hydra import LaunchConfig, elastic_launch
            method, _, as_script = HOW.partition(" ")
            what = [sys.executable, "-u", *sys.argv] if as_script else [main]
            try:
                elastic_launch(LaunchConfig(1, 1, 1, start_method=method, max_restarts=0), what[0])(*what[1:])
            except ChildFailedError:
                assert KIND != "ends well"
            assert os.path.isdir(SHARED.name), "it is still the launcher's"
"""


def left_behind(folder: Path) -> dict[str, str]:
    """Return what is in the files of a folder."""
    return {
        path.name: gzip.decompress(path.read_bytes()).decode()
        if path.suffix == ".gz"
        else path.read_bytes().replace(b"\x00", b"").decode(errors="replace")
        if path.suffix != ".zip"
        else f"{path.stat().st_size} bytes"
        for path in sorted(folder.iterdir())
        if not path.is_dir()
    } | {path.name: "a folder" for path in folder.iterdir() if path.is_dir()}


@pytest.fixture(scope="module")
def by_torchrun(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What workers of torchrun leave behind, by the way in which they end."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("torchrun")
        (folder / "left").mkdir()
        (folder / "app.py").write_text(textwrap.dedent(APP))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1"]
        arguments = [str(folder / "app.py"), str(folder / "left"), "torchrun", kind]
        subprocess.run([*torchrun, *arguments], check=False, stderr=subprocess.DEVNULL)
        found[kind] = left_behind(folder / "left")
    return found


KINDS = ("ends well", "fails", "exits")


@pytest.mark.parametrize("how", ["warm", "forkserver", "spawn", "warm script"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_leaves_behind_what_torchruns_leaves(
    how: str, kind: str, by_torchrun: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "left").mkdir()
    with script(tmp_path, APP, str(tmp_path / "left"), how, kind) as started:
        started.output()
        assert started.process.returncode == 0, started.stderr
    expected = by_torchrun[kind] | {"cycle.txt": "data"}  # an interpreter closes what such a file writes into before it
    if how != "warm":
        expected["opened at import.txt"] = "worker\n"
    if how in ("warm", "forkserver"):
        del expected["made at import, finalized"]  # it is the launcher's, and no worker's
    assert left_behind(tmp_path / "left") == expected, started.stderr


LAUNCHES_ANOTHER = """
    import atexit, os, sys
    from pathlib import Path
    from elastic_hydra import LaunchConfig, elastic_launch

    def clean_up():
        print("cleaned up in", "a worker" if "RANK" in os.environ else "the launcher", flush=True)

    atexit.register(clean_up)
    if __name__ == "__main__":
        Path("other.py").write_text("import atexit; atexit.register(print, 'the script has ended', flush=True)")
        elastic_launch(LaunchConfig(1, 1, 1, start_method=sys.argv[1]), sys.executable)("-u", "other.py")
"""


@pytest.mark.parametrize("start_method", ["warm", "forkserver"])
def test_a_worker_that_runs_another_script_leaves_exit_functions_of_the_launchers_script_alone(
    start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with script(tmp_path, LAUNCHES_ANOTHER, start_method) as started:
        lines = started.output().splitlines()
    said = [line for line in lines if line.endswith(("the launcher", "a worker", "has ended"))]
    assert [line.split("]:")[-1] for line in said] == ["the script has ended", "cleaned up in the launcher"]
