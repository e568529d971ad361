"""Where the workers of a job write."""

from __future__ import annotations

from pathlib import Path

from elastic_hydra.overview.log_files import next_restart, rank_folder, ranks_in, restarts_in


def test_restarts_and_ranks_are_numbers_in_their_order(tmp_path: Path) -> None:
    for restart, rank in ((0, 0), (2, 1), (10, 10), (10, 2)):
        Path(rank_folder(str(tmp_path), restart, rank)).mkdir(parents=True)
    (tmp_path / "restart_x").mkdir()
    assert restarts_in(str(tmp_path)) == [0, 2, 10]
    assert next_restart(str(tmp_path)) == 1
    assert ranks_in(str(tmp_path), 10) == [2, 10]


def test_where_nothing_was_written_there_is_nothing(tmp_path: Path) -> None:
    assert restarts_in(str(tmp_path / "gone")) == []
    assert next_restart(str(tmp_path / "gone")) == 0
    assert ranks_in(str(tmp_path), 3) == []
