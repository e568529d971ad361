"""Change pure modules on purpose, one spot at a time, run the tests, and say per module how many changes they notice.

    python -m tests.mutation                                          all pure modules, 40 changes each, drawn at random
    python -m tests.mutation elastic_hydra/failures/policy.py --all   every change of one module
    python -m tests.mutation --seed 7                                 drawn anew

mutmut makes the changes and knows which test calls which function (`pip install -e '.[mutation]'`). It works in a
copy of the checkout, so that a run that is interrupted leaves nothing changed. What it does not change: constants
of modules and classes, hence tables and the defaults of dataclasses. A change after which a module does the same as
before is listed in `tests/mutation/equivalent.py` with the reason, and is not counted.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from tests.mutation.equivalent import EQUIVALENT

ROOT = Path(__file__).parents[2]

PURE = {
    "elastic_hydra/config/*.py": "tests/config",
    "elastic_hydra/failures/*.py": "tests/failures",
    "elastic_hydra/journal/codec.py": "tests/journal",
    "elastic_hydra/journal/reader.py": "tests/journal",
    "elastic_hydra/journal/values.py": "tests/journal",
    "elastic_hydra/resources/allocator.py": "tests/resources",
    "elastic_hydra/resources/gpus.py": "tests/resources",
    "elastic_hydra/resources/slots.py": "tests/resources",
    "elastic_hydra/sweeps/returns.py": "tests/sweeps",
    "elastic_hydra/sweeps/scheduler.py": "tests/sweeps",
    "elastic_hydra/sweeps/summary.py": "tests/sweeps",
}
"""Modules that decide and do nothing else, and where their tests are."""

SETTINGS = """
[mutmut]
source_paths = elastic_hydra
only_mutate = {modules}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = {arguments}
also_copy = {copied}
"""
COPIED = ("hydra_plugins", "conf", "tests", "editable", "README.md")
ARGUMENTS = ("-m", "pure")

NOTICED = ("killed", "timeout", "segfault")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 where no module is below `--at-least`."""
    options = _parser().parse_args(arguments)
    modules = pure_modules(options.modules)
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        copy_checkout(folder, modules)
        make_changes(folder)
        drawn = draw(results(folder), None if options.all else options.sample, random.Random(options.seed))
        _mutmut(folder, "run", "--max-children", str(options.processes), *drawn)
        outcomes = {change: outcome for change, outcome in results(folder).items() if change in set(drawn)}
        missed = sorted(change for change, outcome in outcomes.items() if outcome not in NOTICED)
        diffs = {change: _mutmut(folder, "show", change) for change in missed}
        for change in [change for change in missed if is_equivalent(module_of(change), diffs[change])]:
            del outcomes[change], diffs[change]
    scores = score(outcomes)
    print(table(scores), *diffs.values(), *outdated(modules), sep="\n")
    return 0 if all(noticed >= options.at_least * made / 100 for noticed, made in scores.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.mutation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="paths of modules; none: all pure ones")
    parser.add_argument(
        "--sample", type=int, default=40, metavar="N", help="how many changes are tried per module (%(default)s)"
    )
    parser.add_argument("--all", action="store_true", help="try every change")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (%(default)s)")
    parser.add_argument("--at-least", type=float, default=0, metavar="PERCENT", help="fail where a module has less")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many at once (%(default)s)")
    return parser


def pure_modules(wanted: Sequence[str]) -> list[str]:
    """Return the paths of modules that are changed.

    Args:
        wanted: paths as the user gives them; none: all pure modules.

    Raises:
        SystemExit: one of them is not a pure module.
    """
    found = [str(path.relative_to(ROOT)) for pattern in PURE for path in sorted(ROOT.glob(pattern))]
    pure = [path for path in found if Path(path).name != "__init__.py"]
    paths = [str(Path(path).resolve().relative_to(ROOT)) for path in wanted if Path(path).name != "__init__.py"]
    unknown = [path for path in paths if path not in pure]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: not among the pure modules, which are {', '.join(PURE)}")
    return paths or pure


def copy_checkout(folder: Path, modules: Sequence[str]) -> None:
    """Copy what mutmut needs, and tell it what to do there: by which tests, and that those are the modules' own."""
    for name in ("elastic_hydra", *COPIED, "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    tests = sorted(
        {folder_of for pattern, folder_of in PURE.items() if any(fnmatch(path, pattern) for path in modules)}
    )
    chosen = {"modules": modules, "tests": tests, "arguments": ARGUMENTS, "copied": COPIED}
    lines = {key: "".join(f"\n    {value}" for value in values) for key, values in chosen.items()}
    (folder / "setup.cfg").write_text(SETTINGS.format(**lines))


def make_changes(folder: Path) -> None:
    """Let mutmut make all changes, and run the tests once without any, to learn which function they call."""
    try:
        # mutmut draws none at random, and lists changes only when it has made them: so it is told to try none of them.
        _mutmut(folder, "run", "nothing")
    except MutmutError as error:
        if "nothing matches" not in str(error):
            raise


class MutmutError(SystemExit):
    """mutmut has failed; with the end of what it printed."""


def _mutmut(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise MutmutError(f"mutmut {arguments[0]} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def results(folder: Path) -> dict[str, str]:
    """Return what became of each change: `killed`, `survived`, `no tests`, `not checked` and so on."""
    lines = [line.strip().rpartition(": ") for line in _mutmut(folder, "results", "--all", "true").splitlines()]
    return {change: outcome for change, _, outcome in lines if change}


def module_of(change: str) -> str:
    """Return the module of a change: mutmut calls changes `package.module.x_function__mutmut_7`."""
    return change.rpartition(".")[0]


def draw(changes: Iterable[str], number: int | None, dice: random.Random) -> list[str]:
    """Draw changes at random, as many of each module.

    Args:
        changes: all that can be made.
        number: how many per module; None: all of them.
        dice: the source of chance.
    """
    by_module: dict[str, list[str]] = collections.defaultdict(list)
    for change in changes:
        by_module[module_of(change)].append(change)
    return [
        change
        for of_module in by_module.values()
        for change in (of_module if number is None else dice.sample(of_module, min(number, len(of_module))))
    ]


def is_equivalent(module: str, diff: str) -> bool:
    """Whether a change is listed as one that no test can notice.

    Args:
        module: the module that is changed, with dots.
        diff: the change, as mutmut shows it.
    """
    lines = diff.splitlines()
    before = [line[1:].strip() for line in lines if line.startswith("-") and not line.startswith("---")]
    after = [line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++")]
    return len(before) == len(after) == 1 and any(
        same.module == module and same.before == before[0] and same.after == after[0] for same in EQUIVALENT
    )


def outdated(modules: Sequence[str]) -> list[str]:
    """Say which listed changes are of lines that these modules do not have any more."""
    lines = {module.removesuffix(".py").replace("/", "."): (ROOT / module).read_text() for module in modules}
    there = {module: set(map(str.strip, text.splitlines())) for module, text in lines.items()}
    return [
        f"tests/mutation/equivalent.py: {listed.module} has no such line any more: {listed.before}"
        for listed in EQUIVALENT
        if listed.module in there and listed.before not in there[listed.module]
    ]


def score(outcomes: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Return for each module how many changes the tests noticed, and how many were tried."""
    made = collections.Counter(module_of(change) for change in outcomes)
    noticed = collections.Counter(module_of(change) for change, outcome in outcomes.items() if outcome in NOTICED)
    return {module: (noticed[module], made[module]) for module in sorted(made)}


def table(scores: dict[str, tuple[int, int]]) -> str:
    """Return the scores as text, a line per module and one for all."""
    total = (sum(noticed for noticed, _ in scores.values()), sum(made for _, made in scores.values()))
    rows = [*scores.items(), ("all", total)]
    return "\n".join(
        f"{100 * noticed / (made or 1):5.1f} %  {noticed:4} of {made:4}  {module}" for module, (noticed, made) in rows
    )


if __name__ == "__main__":
    sys.exit(main())
