"""Whatever the start method, a task finds around it what it would find under torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.apps import App

pytestmark = pytest.mark.system

BEFORE = '''
import collections, copy, dataclasses, enum, functools, inspect, io, multiprocessing, pickle, threading, warnings
import torch
from hydra.core.config_store import ConfigStore
from hydra.utils import get_class, instantiate

PROBES = {}

def probe(function):
    """Keep a probe by its name: that is a registry, filled at import."""
    PROBES[function.__name__] = function
    return function

class Console:
    def __init__(self):
        self.stream, self.lock = io.StringIO(), threading.RLock()

LOCK, CONSOLE, FILE, LOCAL = threading.Lock(), Console(), open(os.devnull, "w"), threading.local()
if __name__ == "__main__":
    print("behind the guard")

GENERATOR = (number for number in range(10))
THREAD = threading.Thread(target=threading.Event().wait, daemon=True)
if os.environ.get("PROBE_THREAD"):
    THREAD.start()
BESIDE = Path("beside.txt").read_text()

torch.set_default_dtype(torch.float64)
torch.set_float32_matmul_precision("high")
torch.backends.cudnn.benchmark = True
torch.nn.Linear.marked = True
torch.manual_seed(1)
sys.setrecursionlimit(3333)
os.environ["PROBE_VARIABLE"] = "set at import"
warnings.filterwarnings("error", "probe")
logging.getLogger("probe").setLevel("CRITICAL")
sys.excepthook = functools.partial(sys.excepthook)

class Net(torch.nn.Module):
    def __init__(self, size=2):
        super().__init__()
        self.layer = torch.nn.Linear(size, size)

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index < len(self):
            return torch.tensor(index)
        raise IndexError

class Color(enum.Enum):
    red = 1

class Mistake(Exception):
    pass

@dataclasses.dataclass
class Settings:
    size: int = 3

Pair = collections.namedtuple("Pair", "a b")
ConfigStore.instance().store("settings", Settings)

def square(number):
    return number * number

def square_of(number):
    return Color(1), Pair(number, square(number))

@probe
def globals_in_use():
    with LOCK, CONSOLE.lock:
        return FILE.write("x"), CONSOLE.stream.write("x"), next(GENERATOR), vars(LOCAL), BESIDE

@probe
def globals_of_libraries():
    with warnings.catch_warnings(record=True):
        return (
            str(torch.get_default_dtype()), torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark,
            torch.nn.Linear.marked, sys.getrecursionlimit(), os.environ["PROBE_VARIABLE"],
            any("probe" in str(entry[1]) for entry in warnings.filters), logging.getLogger("probe").level,
            type(sys.excepthook).__name__,
        )

@probe
def globals_that_run():
    return THREAD.is_alive()

@probe
def main_module():
    here = sys.modules["__main__"]
    return (
        __name__, os.path.basename(here.__file__), here.__spec__ is None, here.Net is Net, log.name, sorted(PROBES),
        sys.modules["__mp_main__"] is here, main.__module__, inspect.getsource(square),
    )

@probe
def main_by_target():
    return type(instantiate({"_target_": "__main__.Net", "size": 3})) is Net, get_class("__main__.Color") is Color

@probe
def main_saved_and_loaded():
    file = io.BytesIO()
    torch.save(Net(), file)
    file.seek(0)
    return b"__main__" in file.getvalue(), type(torch.load(file, weights_only=False)) is Net

@probe
def main_in_pickles():
    values = [Net, Color.red, Mistake("x"), Settings(), Pair(1, 2), square, probe]
    data = pickle.dumps(values)
    back = pickle.loads(data)
    same = [type(one) is type(other) for one, other in zip(values, back)]
    return same, back[0] is Net, back[1] is Color.red, b"__main__" in data, b"__mp_main__" in data

@probe
def main_copied():
    return type(copy.deepcopy(Net())) is Net, copy.deepcopy(Settings()) == Settings()

@probe
def main_in_structured_configs():
    return OmegaConf.get_type(OmegaConf.structured(Settings())) is Settings, OmegaConf.structured(Settings).size

@probe
def multiprocessing_by_forks():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map(square_of, [3]) == [(Color.red, Pair(3, 9))]

@probe
def multiprocessing_by_new_interpreters_in_loaders():
    loader = torch.utils.data.DataLoader(
        Data(), None, num_workers=1, multiprocessing_context="spawn", collate_fn=square_of
    )
    return list(loader) == [(Color.red, Pair(number, number * number)) for number in range(4)]
'''

BODY = """
    found = {}
    torch.backends.cudnn.deterministic = True
    for name, function in PROBES.items():
        try:
            found[name] = repr(function())
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    note(**found)
    return Settings(7)
"""

WAYS = {
    "warm": ("warm", ""),
    "forkserver": ("forkserver", ""),
    "spawn": ("spawn", ""),
    "warm, where a fork would lack a thread": ("warm", "yes"),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp("probes")
    (folder / "beside.txt").write_text("a file beside the script")
    return App(folder, BODY, before=BEFORE)


@pytest.fixture(scope="module")
def torchrun(app: App) -> dict[str, str]:
    """What the probes find under torchrun."""
    out = app.folder / "torchrun"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", str(app.path)]
    subprocess.run([*command, f"hydra.run.dir={out}"], cwd=app.folder, check=True)
    return read(out)


@pytest.fixture(scope="module", params=list(WAYS.values()), ids=list(WAYS))
def both(request: pytest.FixtureRequest, app: App, torchrun: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    start_method, thread = request.param
    name = f"{start_method}{thread}"
    settings = [f"hydra.launcher.start_method={start_method}", f"hydra.sweep.dir={app.folder / name}"]
    finished = app.run(*settings, environ={"PROBE_THREAD": thread})
    assert finished.returncode == 0, finished.output
    assert finished.output.count("behind the guard") == 1, finished.output
    return read(app.folder / name / "0"), torchrun | {"globals_that_run": repr(thread != "")}


def read(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "seen.0.json").read_text())
    return found


@pytest.mark.parametrize("kind", ["globals", "main", "multiprocessing"])
def test_a_task_finds_what_it_finds_under_torchrun(both: tuple[dict[str, str], dict[str, str]], kind: str) -> None:
    ours, torchs = ({name: found for name, found in one.items() if name.startswith(kind)} for one in both)
    assert len(torchs) >= 2
    assert ours == torchs
    assert not [found for found in torchs.values() if "Error" in found], torchs
