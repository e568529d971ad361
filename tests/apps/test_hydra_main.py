"""`elastic_hydra.main` is `hydra.main`: one app, decorated with each of them, does the same for a command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # the first test runs the app for all of them

APP = '''
import importlib, logging, os, sys
from dataclasses import dataclass
import hydra.core.config_store
from hydra.core.hydra_config import HydraConfig

log = logging.getLogger(__name__)
decorator = importlib.import_module(os.environ["DECORATOR"]).main


@dataclass
class Schema:
    x: int = 1
    then: str = "return"


hydra.core.config_store.ConfigStore.instance().store(name="structured", node=Schema)


@decorator({arguments})
def main(cfg):
    """The text of a task function."""
    config = HydraConfig.get() if HydraConfig.initialized() else None
    log.info("x=%s in %s of %s", cfg.x, os.path.basename(os.getcwd()), config and config.job.config_name)
    print("task", main.__name__, main.__doc__, config and config.runtime.choices)
    if cfg.get("then") == "raise":
        raise ValueError("the task's own")
    if cfg.get("then") == "exit":
        sys.exit(3)
    if cfg.get("then") == "interrupt":
        raise KeyboardInterrupt
    return cfg.x


if __name__ == "__main__":
    if "PASSED" in os.environ:
        print(main(hydra.core.config_store.OmegaConf.create(dict(x=7))))
    print("returned", main())
    log.info("after the run")
'''
ARGUMENTS = 'version_base="1.3", config_path="conf", config_name="config"'
CALLBACKS = """
from hydra.experimental.callback import Callback


class Calls(Callback):
    def __getattribute__(self, name):
        if name.startswith("on_"):
            print("callback", name)
        return super().__getattribute__(name)
"""
FILES = {
    "callbacks.py": CALLBACKS,
    "conf/config.yaml": "defaults: [_self_, db: a]\nx: 1\nthen: return\nhydra: {run: {dir: out}, sweep: {dir: s}}\n",
    "conf/other.yaml": "x: 2\nhydra: {run: {dir: out}}\n",
    "conf/db/a.yaml": "name: a\n",
    "conf/db/b.yaml": "name: b\n",
    "conf/multi.yaml": "x: 2\nhydra: {mode: MULTIRUN, sweep: {dir: sweep}}\n",
    "more/db/c.yaml": "name: c\n",
    "package/__init__.py": "",
    "package/conf/config.yaml": "x: 5\nhydra: {run: {dir: out}}\n",
}
DRIVER = '''
"""Run an app once for each case, in forks of one interpreter, and print the exit codes."""
import json, os, runpy, sys
import elastic_hydra, hydra
from pathlib import Path

assert elastic_hydra.main is not hydra.main and "torch" not in sys.modules

for folder, module, argv, environ in json.load(sys.stdin):
    pid = os.fork()
    if not pid:
        os.chdir(folder)
        for stream, name in ((1, "../stdout"), (2, "../stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream)
        os.environ.update(environ)
        sys.path.insert(0, folder)
        path = module.replace(".", "/") + ".py"
        sys.argv = [path if not environ.get("AS_MODULE") else os.path.abspath(path), *argv]
        if environ.get("AS_MODULE"):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(path, run_name="__main__")
        sys.exit()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    Path(folder, "../status").write_text(str(status))
'''


@dataclass(frozen=True)
class Case:
    """A command line, and what stands around it."""

    argv: tuple[str, ...] = ()
    arguments: str = ARGUMENTS
    """Of the decorator."""
    environ: tuple[tuple[str, str], ...] = ()
    module: str = "app"


def case(*argv: str, arguments: str = ARGUMENTS, module: str = "app", **environ: str) -> Case:
    return Case(argv, arguments, tuple(environ.items()), module)


SPY = "+hydra.callbacks.calls._target_=callbacks.Calls"
CASES = {
    "a run": case(),
    "callbacks": case(SPY),
    "overrides": case("x=3", "db=b", "+new=1"),
    "a group that is not there": case("db=z"),
    "a key that is not there": case("nope=1"),
    "no override": case("x"),
    "a directory of the run": case("hydra.run.dir=there/${db.name}", "hydra.job.chdir=true"),
    "the directory of the time": case("hydra.run.dir=outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}"),
    "an exception": case("then=raise", SPY),
    "an exception in full": case("then=raise", HYDRA_FULL_ERROR="1"),
    "an exit": case("then=exit", SPY),
    "an interrupt": case("then=interrupt", SPY),
    "--cfg": case("--cfg", "job", "x=3"),
    "--cfg and --package": case("--cfg", "hydra", "--package", "hydra.job"),
    "--cfg and --resolve": case("--cfg", "all", "--resolve", "+y=${x}"),
    "--resolve alone": case("--resolve"),
    "--help": case("--help"),
    "--hydra-help": case("--hydra-help"),
    "--version": case("--version"),
    "--info": case("--info", "defaults-tree"),
    "--run": case("--run", "x=3"),
    "--multirun": case("--multirun", "x=1,2", SPY),
    "-m, of which one fails": case("-m", "then=return,raise"),
    "hydra.mode=RUN": case("hydra.mode=RUN", "-m", "x=3"),
    "hydra.mode=MULTIRUN": case("hydra.mode=MULTIRUN", "x=1,2"),
    "a mode in the file": case("--config-name", "multi"),
    "--config-name": case("--config-name=other"),
    "--config-path": case("--config-path=package/conf"),
    "--config-dir": case("--config-dir=more", "db=c"),
    "a --config-dir that is not there": case("--config-dir=less"),
    "two commands": case("--run", "--cfg", "job"),
    "an unknown flag": case("--nope"),
    "installing completion": case("--shell-completion", "install=bash"),
    "completion": case("-sc", "query=bash", COMP_LINE="app.py db=", COMP_POINT="10"),
    "a structured config": case("x=4", arguments='version_base="1.3", config_path=None, config_name="structured"'),
    "a wrong type": case("x=a", arguments='version_base="1.3", config_path=None, config_name="structured"'),
    "no arguments": case("+x=1", "hydra.run.dir=out", "hydra.job.chdir=false", arguments=""),
    "python -m": case("x=4", module="package.app", AS_MODULE="1"),
    "the main module is another": case("x=4", HYDRA_MAIN_MODULE="package.app"),
    "called with a configuration": case(PASSED="1"),
    "--experimental-rerun of nothing": case("--experimental-rerun=nothing"),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run each case twice; the outcomes are in a folder for each case and decorator."""
    root, plan = tmp_path_factory.mktemp("cases"), []
    for number, one in enumerate(CASES.values()):
        for decorator in ("hydra", "elastic_hydra"):
            folder = root / str(number) / decorator / "here"
            for name, text in (FILES | {one.module.replace(".", "/") + ".py": APP}).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.replace("{arguments}", one.arguments))
            plan.append((str(folder), one.module, one.argv, {**dict(one.environ), "DECORATOR": decorator}))
    subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(plan),
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    return root


def outcome(folder: Path) -> dict[str, str]:
    """Return the exit code, what was printed, and the files that were left behind, without times and places."""
    texts = {name: (folder / name).read_text() for name in ("status", "stdout", "stderr")}
    for path in sorted((folder / "here").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            texts[_without_chance(str(path.relative_to(folder)), folder)] = path.read_text()
    return {name: _without_chance(text, folder) for name, text in texts.items()}


def _without_chance(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "FOLDER")
    text = re.sub(r"\d\d-\d\d-\d\d|\d\d:\d\d:\d\d(,\d+)?", "TIME", re.sub(r"\d{4}-\d\d-\d\d", "DATE", text))
    # Where Python shows the whole trace, some functions of ours are in it.
    return re.sub(r'  File ".*/elastic_hydra/(?:apps|compat)/\w+\.py", line .*\n(?:    .*\n)+', "", text)


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_it_does_what_hydra_main_does(ran: Path, number: int) -> None:
    hydras, ours = (outcome(ran / str(number) / decorator) for decorator in ("hydra", "elastic_hydra"))
    assert hydras["stdout"] + hydras["stderr"], "a case that says nothing compares nothing"
    assert ours == hydras


@pytest.mark.parametrize(
    ("name", "status", "stream", "text"),
    [
        ("a run", "0", "stdout", "returned None"),
        ("an exception", "1", "stderr", "ValueError: the task's own"),
        ("an exit", "3", "stdout", "x=1"),
        ("a structured config", "0", "stdout", "x=4"),
        ("--cfg and --resolve", "0", "stdout", "'y': 1"),
        ("--multirun", "0", "stdout", "x=2"),
        ("python -m", "0", "stdout", "x=4"),
        ("an unknown flag", "2", "stderr", "--nope"),
    ],
)
def test_the_cases_are_what_they_are_called(ran: Path, name: str, status: str, stream: str, text: str) -> None:
    found = outcome(ran / str(list(CASES).index(name)) / "elastic_hydra")
    assert found["status"] == status
    assert text in found[stream]
