"""Test each Python with each torch and each Hydra, and print the table that stands in docs/reference/versions.md.

    python3 -m tests.versions                                      everything that this machine can
    python3 -m tests.versions --corners                            the oldest and the newest of all three
    python3 -m tests.versions --python 3.12 --torch 2.9 --hydra 1.4

A combination takes two to three minutes: an environment of its own, the tests of everything pure and of the
configuration, Hydra's conformance suite, and the sweep of examples/digits. Needs nothing but Python 3.10 with pip.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.versions import report
from tests.versions.combination import Combination, Outcome, run_tests
from tests.versions.interpreters import PYTHONS, find
from tests.versions.torch_releases import minors

HYDRAS = {"1.3": "hydra-core>=1.3.2,<1.4", "1.4": "hydra-core>=1.4.0rc3,<1.5"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 1 where a combination fails."""
    options = _parser().parse_args(arguments)
    interpreters = find(options.interpreter)
    asked = combinations(options)
    outcomes = {}
    for combination in asked:
        outcomes[combination] = outcome = _outcome(combination, interpreters, options)
        print(f"{combination}: {outcome.state}{outcome.reason and ': ' + outcome.reason}", flush=True)
    print("", report.table(outcomes), "", report.not_tested(outcomes), sep="\n")
    return int(any(outcome.state == "fails" for outcome in outcomes.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.versions", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="3.N", help="versions (%(default)s)")
    parser.add_argument("--torch", nargs="+", metavar="2.N", help="versions (all from 2.9 on that pip finds)")
    parser.add_argument("--hydra", nargs="+", default=[*HYDRAS], choices=[*HYDRAS], help="versions (%(default)s)")
    parser.add_argument(
        "--corners", action="store_true", help="only the oldest of all three, and the newest of all three"
    )
    parser.add_argument(
        "--interpreter",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="a Python that is not found otherwise",
    )
    parser.add_argument("--torch-index", metavar="URL", help="where pip finds torch, such as an index of CPU builds")
    parser.add_argument(
        "--slim", action="store_true", help="install torch without CUDA's libraries (gigabytes); needs gcc and binutils"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the environments there, and take those that are"
    )
    return parser


def combinations(options: argparse.Namespace) -> list[Combination]:
    """Return what the user asks for, oldest first."""
    torches = options.torch or minors(options.torch_index)
    every = [Combination(*versions) for versions in itertools.product(options.python, torches, options.hydra)]
    return [every[0], every[-1]] if options.corners else every


def _outcome(combination: Combination, interpreters: dict[str, Path], options: argparse.Namespace) -> Outcome:
    python = interpreters.get(combination.python)
    if combination.python == "3.14" and combination.hydra == "1.3":
        return Outcome("impossible", "hydra-core 1.3 does not start with Python 3.14")
    if python is None:
        return Outcome("not tested", f"no Python {combination.python} found")
    with tempfile.TemporaryDirectory(prefix="versions-") as temporary:
        folder = (options.keep or Path(temporary)).resolve() / str(combination).replace(" ", "-")
        return run_tests(combination, python, folder, HYDRAS[combination.hydra], options.torch_index, slim=options.slim)


if __name__ == "__main__":
    sys.exit(main())
