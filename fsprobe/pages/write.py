"""A page and its figures as files."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from extract.files import atomic_write
from fsprobe.pages.blocks import Block, Figure, to_html, to_markdown
from fsprobe.pages.plot_style import render


def write(blocks: Sequence[Block], out: Path) -> None:
    """Draw every figure, then write all files, each whole or not at all."""
    drawn: dict[str, tuple[bytes, str]] = {}
    images: dict[str, tuple[str, int, int]] = {}
    figures = [block for block in blocks if isinstance(block, Figure)]
    for block in tqdm(figures, desc="figures", disable=None):
        figure = block.draw()
        png, svg = drawn[block.name] = render(figure)
        width, height = figure.get_size_inches() * 96
        images[block.name] = (svg, round(width), round(height))
    page = to_html(blocks, images)
    text = to_markdown(blocks, "figures/{}.png".format)
    for name, (png, svg) in drawn.items():
        for suffix, content in (("png", png), ("svg", svg.encode())):
            with atomic_write(out / "figures" / f"{name}.{suffix}", binary=True) as file:
                file.write(content)
    for name, written in (("report.md", text), ("report.html", page)):
        with atomic_write(out / name) as file:
            file.write(written)
