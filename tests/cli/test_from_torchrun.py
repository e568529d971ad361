"""`elastic-hydra from-torchrun`."""

from __future__ import annotations

import io

import pytest

from elastic_hydra.cli.main import main

TEXT = 'torchrun --nproc-per-node=$N --master-port=1 train.py "$@" | tee log'
SAID = """\
elastic-hydra run nproc_per_node=$N -- train.py "$@" | tee log

# The same settings for elastic-hydra run --config-dir . --config-name launch -- …
# launch.yaml: its variables must be exported: N
defaults:
  - elastic
  - override logs: console
  - _self_

nproc_per_node: "${oc.env:N}"

# --master-port: not needed on one node, whose workers meet without a port that somebody chooses
"""


def test_it_prints_command_profile_and_remarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["from-torchrun", TEXT]) == 0
    assert capsys.readouterr().out == SAID


def test_it_takes_words_that_a_shell_has_split(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["from-torchrun", "torchrun", "--nproc-per-node=2", "-m", "pkg", "--help", "a b"]) == 0
    assert capsys.readouterr().out.startswith("elastic-hydra run nproc_per_node=2 -- -m pkg --help 'a b'\n")


def test_it_reads_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"#!/bin/sh\n{TEXT}\ndate\n"))
    assert main(["from-torchrun"]) == 0
    assert capsys.readouterr().out == SAID


def test_what_torchrun_would_refuse_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["from-torchrun", "torchrun", "--nprocs-per-node=2", "a.py"]) == 2
    err = capsys.readouterr().err
    assert err == (
        "elastic-hydra: --nprocs-per-node: torchrun has no such flag (did you mean --nproc-per-node?): correct it, or "
        "leave it out\n"
    )
