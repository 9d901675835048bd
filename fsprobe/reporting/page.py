"""The whole report: its sections in order."""

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fsprobe.pages.blocks import Block, Code, Figure, Heading, Paragraph
from fsprobe.reporting.comparisons import compare_embeddings
from fsprobe.reporting.formatting import INTERVAL, Style, slug
from fsprobe.reporting.sections import (
    data_efficiency,
    embeddings_by_tag,
    full_probes,
    grid,
    long_tail,
    overview,
    several_splits,
    several_sweeps,
    significance,
    solvers,
    tags,
    validation,
    words,
)
from fsprobe.reporting.sweep_results import SweepResults


def report(
    sweeps: Sequence[SweepResults], half_width: float = Style.half_width, each: bool = True
) -> list[Block]:
    """The whole report as blocks: of one sweep, or of several side by side and then one by one;
    without `each` only side by side. Splits of one catalogue are shown together only.
    """
    return _distinct(_sections(sweeps, half_width, each))


def _distinct(blocks: Sequence[Block]) -> list[Block]:
    """The same, every figure under a name of its own: embeddings may differ in a sign that a file's
    name has not, and two groups of splits may have one solver.
    """
    found: list[Block] = []
    taken: set[str] = set()
    for block in blocks:
        if isinstance(block, Figure):
            others = (f"{block.name}_{count}" for count in itertools.count(2))
            name = next(name for name in itertools.chain([block.name], others) if name not in taken)
            taken.add(name)
            block = replace(block, name=name)
        found.append(block)
    return found


def _sections(sweeps: Sequence[SweepResults], half_width: float, each: bool) -> list[Block]:
    blocks = _introduction(sweeps, half_width, each)
    if splits := several_splits.groups(sweeps):
        blocks += several_splits.splits_together(splits, Style(2))
        pooled = [sweep for group in splits for sweep in group]
        sweeps = [sweep for sweep in sweeps if sweep not in pooled]
        if not sweeps:
            return blocks
    if len(sweeps) == 1:
        style = Style(2, "", half_width)
        return [*blocks, *_one_sweep(sweeps[0], style), *long_tail.long_tail(sweeps, style)]
    blocks += solvers.solvers(sweeps, Style(2))
    blocks += several_sweeps.side_by_side(sweeps, Style(2))
    blocks += validation.validation_costs(sweeps, Style(2))
    if together := long_tail.complement(sweeps):
        blocks += long_tail.long_tail(sweeps, Style(2))
    for i, sweep in enumerate(sweeps if each else ()):
        style = Style(3, f"{i + 1}_{slug(sweep.label)}_", half_width)
        blocks += [Heading(2, sweep.label), *_one_sweep(sweep, style)]
        if not together:
            blocks += long_tail.long_tail([sweep], style)
    return blocks


def _introduction(sweeps: Sequence[SweepResults], half_width: float, each: bool) -> list[Block]:
    command = ["python", "-m", "fsprobe.report"]
    command += [f"--results={_folder(sweep)}" for sweep in sweeps]
    command += [] if half_width == Style.half_width else [f"--half_width={half_width}"]
    command += [] if each else ["--noeach"]
    return [
        Heading(1, f"Few-shot probes: {', '.join(sweep.label for sweep in sweeps)}"),
        Paragraph(
            "Made from the rows that fsprobe.sweep wrote. The same rows give the same page, byte "
            "for byte:"
        ),
        Code(shlex.join(command)),
        Paragraph(
            "N is the number of tags of an episode, K the support clips per tag. "
            f"Intervals are the {INTERVAL} (Student's below 5 seeds, none for one). "
            "They cover what varies from seed to seed on these clips: the episode, the "
            "initialisation and the order of the clips. They do not cover another test set."
        ),
    ]


def _folder(sweep: SweepResults) -> str:
    """Where the sweep wrote its rows, unless the folder has another name by now."""
    out = str((sweep.run.get("flags") or {}).get("out") or "")
    return out if Path(out).name == Path(sweep.label).name else f"results/{sweep.label}"


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
        *embeddings_by_tag.embeddings_by_tag(sweep, style),
    ]
