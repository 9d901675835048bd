"""The whole report: its blocks in order, and its files on disk."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from extract.files import atomic_write
from fsprobe.reporting import overview as sections
from fsprobe.reporting import plots as figures
from fsprobe.reporting import tags as data_sections
from fsprobe.reporting.blocks import Block, Code, Figure, Heading, Paragraph, to_html, to_markdown
from fsprobe.reporting.phrases import INTERVAL, Style, slug
from fsprobe.reporting.study import Study


def report(studies: Sequence[Study], half_width: float = Style.half_width) -> list[Block]:
    """The whole report as blocks."""
    command = " ".join(
        ["python -m fsprobe.report", *(f"--results=results/{study.label}" for study in studies)]
    )
    blocks: list[Block] = [
        Heading(1, f"Few-shot probes: {', '.join(study.label for study in studies)}"),
        Paragraph(
            "Made from the rows of fsprobe.sweep; the same rows give this page again, byte for "
            "byte:"
        ),
        Code(command),
        Paragraph(
            f"N is the number of tags of an episode, K the support clips per tag. Intervals are "
            f"the {INTERVAL} "
            "(Student's below 5 seeds, none for one). They speak of what varies from seed to seed, "
            "on these "
            "clips: episode, initialisation, order; not of another test set."
        ),
    ]
    if len(studies) == 1:
        return [
            *blocks,
            *_study(studies[0], Style(2, "", half_width)),
            *data_sections.long_tail(studies, Style(2, "", half_width)),
        ]
    blocks += data_sections.side_by_side(studies, Style(2))
    if together := data_sections.complement(studies):
        blocks += data_sections.long_tail(studies, Style(2))
    for i, study in enumerate(studies):
        style = Style(3, f"{i + 1}_{slug(study.label)}_", half_width)
        blocks += [Heading(2, study.label), *_study(study, style)]
        if not together:
            blocks += data_sections.long_tail([study], style)
    return blocks


def write(blocks: Sequence[Block], out: Path) -> None:
    """Draw every figure, then write all files, each whole or not at all."""
    drawn: dict[str, tuple[bytes, str]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for block in tqdm(
        [block for block in blocks if isinstance(block, Figure)], desc="figures", disable=None
    ):
        figure = block.draw()
        drawn[block.name] = figures.render(figure)
        width, height = figure.get_size_inches() * 96
        sizes[block.name] = (round(width), round(height))
    page = to_html(blocks, {name: (svg, *sizes[name]) for name, (_, svg) in drawn.items()})
    text = to_markdown(blocks, "figures/{}.png".format)
    for name, (png, svg) in drawn.items():
        for suffix, content in (("png", png), ("svg", svg.encode())):
            with atomic_write(out / "figures" / f"{name}.{suffix}", binary=True) as file:
                file.write(content)
    for name, written in (("report.md", text), ("report.html", page)):
        with atomic_write(out / name) as file:
            file.write(written)


def _study(study: Study, style: Style) -> list[Block]:
    return [
        *sections.probes(study, style),
        *data_sections.data(study, style),
        *data_sections.per_tag(study, style),
    ]
