"""Tables of plain text, for a terminal."""

import sys
from collections.abc import Sequence


def text_table(
    rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), widest: int = sys.maxsize
) -> str:
    """Columns side by side, those in `left` aligned left. The first is cut at `widest`."""
    cut = [
        [cell if len(cell) <= widest or i else f"{cell[:widest]}…" for i, cell in enumerate(row)]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cut
    ]
    return "\n".join(lines)
