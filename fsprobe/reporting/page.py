"""The whole report: its sections in order."""

from collections.abc import Sequence

from fsprobe.pages.blocks import Block, Code, Heading, Paragraph
from fsprobe.reporting.comparisons import compare_embeddings
from fsprobe.reporting.formatting import INTERVAL, Style, slug
from fsprobe.reporting.sections import (
    data_efficiency,
    full_probes,
    grid,
    long_tail,
    overview,
    several_sweeps,
    significance,
    tags,
    words,
)
from fsprobe.reporting.sweep_results import SweepResults


def report(sweeps: Sequence[SweepResults], half_width: float = Style.half_width) -> list[Block]:
    """The whole report as blocks: of one sweep, or of several side by side and then one by one."""
    blocks = _introduction(sweeps)
    if len(sweeps) == 1:
        style = Style(2, "", half_width)
        return [*blocks, *_one_sweep(sweeps[0], style), *long_tail.long_tail(sweeps, style)]
    blocks += several_sweeps.side_by_side(sweeps, Style(2))
    if together := long_tail.complement(sweeps):
        blocks += long_tail.long_tail(sweeps, Style(2))
    for i, sweep in enumerate(sweeps):
        style = Style(3, f"{i + 1}_{slug(sweep.label)}_", half_width)
        blocks += [Heading(2, sweep.label), *_one_sweep(sweep, style)]
        if not together:
            blocks += long_tail.long_tail([sweep], style)
    return blocks


def _introduction(sweeps: Sequence[SweepResults]) -> list[Block]:
    folders = [f"--results=results/{sweep.label}" for sweep in sweeps]
    return [
        Heading(1, f"Few-shot probes: {', '.join(sweep.label for sweep in sweeps)}"),
        Paragraph(
            "Made from the rows that fsprobe.sweep wrote. The same rows give the same page, byte "
            "for byte:"
        ),
        Code(" ".join(["python -m fsprobe.report", *folders])),
        Paragraph(
            "N is the number of tags of an episode, K the support clips per tag. "
            f"Intervals are the {INTERVAL} (Student's below 5 seeds, none for one). "
            "They cover what varies from seed to seed on these clips: the episode, the "
            "initialisation and the order of the clips. They do not cover another test set."
        ),
    ]


def _one_sweep(sweep: SweepResults, style: Style) -> list[Block]:
    pairs = compare_embeddings(sweep)
    return [
        *overview.what_was_run(sweep, style),
        *significance.findings_checked(sweep, pairs, style),
        *full_probes.full_probes(sweep, style),
        *full_probes.weight_shares(sweep, style),
        *words.words(sweep, style),
        *data_efficiency.data_efficiency(sweep, style),
        *data_efficiency.norm_correlation(sweep, style),
        *grid.grid(sweep, style),
        *significance.differences(sweep, pairs, style),
        *significance.seeds_for_half_width(sweep, style),
        *overview.convergence(sweep, style),
        *tags.tag_counts(sweep, style),
        *tags.per_tag(sweep, style),
    ]
