"""Sizes as people write and read them."""

from __future__ import annotations

import pytest

from elastic_hydra.config.sizes import bytes_in_words, number_of_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        (1000, 1000),
        ("16GB", 16 * 10**9),
        ("512MiB", 512 * 2**20),
        ("1.5 kb", 1500),
        ("2T", 2 * 10**12),
        (" 1KiB ", 1024),
        ("much", None),
        ("-1", None),
        ("1XB", None),
        ("", None),
        (None, None),
    ],
)
def test_a_size_is_read(text: object, count: int | None) -> None:
    assert number_of_bytes(text) == count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (65536, "65.5 kB"),
        (10**6, "1.0 MB"),
        (10**9, "1.0 GB"),
        (1 << 30, "1.1 GB"),
        (10**12, "1.0 TB"),
    ],
)
def test_a_size_is_written(count: int, text: str) -> None:
    assert bytes_in_words(count) == text
