"""What a sweep says on stderr: gaps in its data before, failures after."""

import sys
from pathlib import Path

from tqdm import tqdm

from extract.shell import as_flags
from fsprobe.batch import processes
from fsprobe.config import SweepConfig
from fsprobe.study import records
from fsprobe.study.grid import Grid
from fsprobe.study.results import SOLVER
from fsprobe.study.seen_tags import SeenTags
from fsprobe.study.tables import ProbeRow, SolverRow, read_rows


def note(text: str) -> None:
    if processes.leads():
        tqdm.write(f"fsprobe.sweep: {as_flags(text)}", file=sys.stderr)


def note_gaps(drawn: Grid, words: SeenTags | None, validation: str) -> None:
    """Say which supports are short, and which tags have no metric, no vector, or nothing known of
    the clips that choose. validation: as in SolverConfig.
    """
    if words and words.without:
        note(
            f"{len(words.without)} tags have no vector in `words` and take no part: "
            f"{', '.join(words.without)}"
        )
    if drawn.scarce:
        tag, fewest = min(drawn.scarce, key=lambda pair: pair[1])
        supports = len(drawn.episodes) * max(drawn.config.n_way)
        note(
            f"`on_scarce=fewer`: {len(drawn.scarce)} of {supports} supports have fewer than K = "
            f"{drawn.config.max_shot} clips; the smallest is of {tag!r}, with {fewest}"
        )
    if drawn.unscored:
        note(
            f"{len(drawn.unscored)} of {len(drawn.pool)} tags have no positive or no negative test "
            f"clip: their metrics stay empty and out of the means ({', '.join(drawn.unscored)})"
        )
    if validation == "valid" and drawn.config.k_shot != (0,) and drawn.unchosen:
        note(
            f"{len(drawn.unchosen)} of {len(drawn.pool)} tags are unknown of every validation "
            "clip: nothing is chosen by them, and for a probe of such tags alone nothing at all "
            f"({', '.join(drawn.unchosen)}); `validation=support` needs no validation clip"
        )


def note_shortcomings(rows: list[ProbeRow], config: SweepConfig) -> None:
    """Say how many probes diverged, did not converge, or were simplified."""
    if not rows:
        return
    if diverged := sum(row.diverged for row in rows):
        note(
            f"{diverged} probes never had a finite validation loss: their metrics are empty; lower "
            "`learning_rate`"
        )
    solved = read_rows(Path(config.out) / SOLVER, SolverRow)
    if open_ended := sum(not row.converged for row in solved):
        note(
            f"{open_ended} of {len(solved)} probes did not converge (column `converged` of "
            f"{SOLVER}): a stronger `l2`, or `standardize=train`, helps"
        )
    if cut := records.cut_note(config.solver.name, solved, len(rows)):
        note(cut)
