"""How lines that workers have written are shown: a long one in short, a progress bar in its last state."""

from __future__ import annotations

__all__ = ["LongLines", "last_states"]

_LONGEST = 4000
"""Characters of a line that are shown as they come."""
_END = 1000
"""Characters of the end of a longer one that are shown as well."""


class LongLines:
    """Cuts the middle out of long lines of a text that comes in parts: each line once, however many parts it has."""

    def __init__(self) -> None:
        self._length = 0
        """Of the line that has not ended yet."""
        self._end = ""
        """What has come of its end, and is not shown yet."""

    def cut(self, text: str, *, last: bool) -> str:
        """Return what is to be shown of a part.

        Args:
            text: the part.
            last: whether nothing follows it.
        """
        shown = []
        for line in text.splitlines(keepends=True):
            body = line.rstrip("\r\n")
            room = max(0, _LONGEST - self._length)
            shown.append(body[:room])
            self._length += len(body)
            self._end = (self._end + body[room:])[-_END:]
            if len(body) < len(line):
                shown.append(self._rest() + line[len(body) :])
        return "".join(shown) + (self._rest() if last else "")

    def _rest(self) -> str:
        end, left_out = self._end, self._length - _LONGEST - len(self._end)
        self._end, self._length = "", 0
        return end if left_out <= 0 else f" … {left_out} characters more, which are in the file … {end}"


def last_states(text: str) -> str:
    """Leave of each line what a terminal shows of it in the end: what follows the last `\\r`, as in a progress bar."""
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
