"""Makes the picture of the live view, from a sweep of the example: `python docs/live_view.py`, from a clone.

It runs the sweep on a terminal of its own, waits until it is half done, and draws what a person sees there then.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

CLONE = Path(__file__).parent.parent
sys.path.insert(0, str(CLONE))

from tests.helpers.apps import TAKES_TERMINAL  # noqa: E402 - the clone is not on the path before
from tests.helpers.terminals import Terminal  # noqa: E402

SWEEP = [
    "examples/digits/train.py",
    "-m",
    "hydra/launcher=elastic",
    "hydra.launcher.parallel=3",
    "lr=O.03,0.03,0.01,0.003,0.001",
    "channels=8,16",
    "epochs=20",
]
COLUMNS, ROWS = 118, 26
"""Of the terminal."""


def screen(terminal: Terminal) -> Text:
    """Return what is on a terminal, with its colours."""
    text = Text()
    for row in range(terminal.screen.lines):
        for column in range(terminal.screen.columns):
            cell = terminal.screen.buffer[row][column]
            colour = (
                ""
                if cell.fg == "default"
                else cell.fg.replace("brightblack", "bright_black").replace("brown", "yellow")
            )
            text.append(cell.data, f"{'bold ' if cell.bold else ''}{colour}".strip() or None)
        text.append("\n")
    return text


def half_done(terminal: Terminal) -> bool:
    """Whether enough has happened for a picture that shows something."""
    bar = next((row for row in terminal.rows if row.startswith("━")), "")
    done = re.search(r"(\d+) of \d+ done, 3 running", bar)
    return done is not None and int(done[1]) >= 5 and "left" in bar


def main() -> None:
    """Run the sweep as far as is needed, and write the picture."""
    with Terminal(COLUMNS, ROWS) as terminal:
        environ = {**os.environ, "TERM": "xterm-256color", "CI": ""}
        command = [sys.executable, "-c", TAKES_TERMINAL, sys.executable, *SWEEP]
        end = terminal.slave
        sweep = subprocess.Popen(
            command, stdin=end, stdout=end, stderr=end, env=environ, cwd=CLONE, start_new_session=True
        )
        terminal.wait_for(lambda: half_done(terminal), "a sweep that is half done")
        console = Console(record=True, width=COLUMNS, file=io.StringIO())
        console.print(screen(terminal), end="")
        sweep.send_signal(signal.SIGTERM)
        while sweep.poll() is None:
            terminal.read(0.1)
    picture = console.export_svg(title="python " + " ".join(SWEEP[:4]) + " …", clear=False)
    picture = re.sub(r"\s*@font-face \{.*?\}\n", "\n", picture, flags=re.DOTALL)  # nothing is loaded from elsewhere
    folder = CLONE / "docs" / "images"
    folder.mkdir(exist_ok=True)
    (folder / "live.svg").write_text(picture)


if __name__ == "__main__":
    main()
