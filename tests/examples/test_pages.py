"""Each example has a page and a test, and is in the list."""

from __future__ import annotations

from tests.examples.pages import EXAMPLES

FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


def test_each_example_has_a_page_that_the_list_names() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for name in FOLDERS:
        assert (EXAMPLES / name / "README.md").is_file()
        assert f"[{name}]({name}/README.md)" in listed


def test_each_example_has_a_test() -> None:
    for name in FOLDERS:
        assert (EXAMPLES.parent / "tests" / "examples" / f"test_{name}.py").is_file()
