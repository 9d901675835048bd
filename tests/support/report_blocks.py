"""Reports of results directories as blocks, and parts of them."""

from pathlib import Path

from fsprobe.pages.blocks import Block, Figure, Heading, Table, to_markdown
from fsprobe.reporting.page import report
from fsprobe.reporting.reading import labels, read_sweep


def blocks_of(*paths: Path, each: bool = True) -> list[Block]:
    names = labels([*map(str, paths)])
    sweeps = [read_sweep(path, label) for path, label in zip(paths, names, strict=True)]
    return report(sweeps, each=each)


def text_of(*paths: Path, each: bool = True) -> str:
    return to_markdown(blocks_of(*paths, each=each), "figures/{}.png".format)


def tables(blocks: list[Block], start: str) -> list[Table]:
    return [
        block for block in blocks if isinstance(block, Table) and block.caption.startswith(start)
    ]


def headings(blocks: list[Block]) -> list[str]:
    return [block.text for block in blocks if isinstance(block, Heading)]


def names(blocks: list[Block]) -> set[str]:
    return {block.name for block in blocks if isinstance(block, Figure)}


def draw(blocks: list[Block]) -> None:
    for block in blocks:
        if isinstance(block, Figure):
            block.draw()
