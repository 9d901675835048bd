"""A page and its figures as files."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from extract.files import atomic_write
from fsprobe.pages.blocks import Block, Figure, to_html, to_markdown
from fsprobe.pages.plot_style import render


def write(blocks: Sequence[Block], out: Path) -> None:
    """Draw every figure, then write all files, each whole or not at all."""
    files: dict[str, bytes] = {}
    images: dict[str, tuple[str, int, int]] = {}
    figures = [block for block in blocks if isinstance(block, Figure)]
    for block in tqdm(figures, desc="figures", disable=None):
        figure = block.draw()
        png, svg = render(figure)
        width, height = figure.get_size_inches() * 96
        images[block.name] = (svg, round(width), round(height))
        files |= {f"figures/{block.name}.png": png, f"figures/{block.name}.svg": svg.encode()}
    files["report.md"] = to_markdown(blocks, "figures/{}.png".format).encode()
    files["report.html"] = to_html(blocks, images).encode()
    for name, content in files.items():
        with atomic_write(out / name, binary=True) as file:
            file.write(content)
