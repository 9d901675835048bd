"""A page and its figures as files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from extract.files import atomic_write
from fsprobe.pages.blocks import Block, Figure, to_html, to_markdown
from fsprobe.pages.plot_style import has_boxes, render

_BOXES = "A box stands for a sign that the figure's font does not have."


def write(blocks: Sequence[Block], out: Path) -> None:
    """Draw every figure, then write all files, each whole or not at all."""
    files: dict[str, bytes] = {}
    images: dict[str, tuple[str, int, int]] = {}
    blocks = list(blocks)
    figures = [(i, block) for i, block in enumerate(blocks) if isinstance(block, Figure)]
    for i, block in tqdm(figures, desc="figures", disable=None):
        figure = block.draw()
        png, svg = render(figure)
        if has_boxes(figure):
            blocks[i] = replace(block, caption=f"{block.caption} {_BOXES}")
        width, height = figure.get_size_inches() * 96
        images[block.name] = (svg, round(width), round(height))
        files |= {f"figures/{block.name}.png": png, f"figures/{block.name}.svg": svg.encode()}
    files["report.md"] = to_markdown(blocks, "figures/{}.png".format).encode()
    files["report.html"] = to_html(blocks, images).encode()
    for name, content in files.items():
        with atomic_write(out / name, binary=True) as file:
            file.write(content)
