"""What a sweep found and what it was asked for, as one value; `fsprobe.reporting.reading` reads it
from a directory.

Every file beyond run.json, probes.csv and per_tag.csv is optional: what is absent is listed, never
an error.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fsprobe.config import FULL, GridConfig, KShot, from_json, shot_order
from fsprobe.heads.solvers.registry import SOLVERS, validation_of
from fsprobe.reporting.statistics import Summary, mean_of, summarise
from fsprobe.study.grid import probe_keys
from fsprobe.study.tables import (
    MapRow,
    ProbeKey,
    ProbeRow,
    SolverRow,
    TagCountRow,
    TagRow,
    ZeroShotRow,
)
from fsprobe.words.config import WordsConfig


@dataclass(frozen=True, eq=False)
class SweepResults:
    """What a sweep found, and what it was asked for.

    tags: per finished probe, its tags' rows. episodes: per seed and position, (tag, support clips
    in order). tag_counts, cooccurrence, solver_rows, norms: empty where the sweep left no such
    file; `absent` names those. Of a sweep with words: unseen: per seed, the tags it did not learn
    of → a near synonym that it did, or ""; zero_shot, map: per probe without examples.
    """

    label: str
    run: Mapping[str, Any]
    grid: GridConfig
    probes: Mapping[ProbeKey, ProbeRow] = field(default_factory=dict)
    tags: Mapping[ProbeKey, tuple[TagRow, ...]] = field(default_factory=dict)
    episodes: Mapping[int, Mapping[int, tuple[str, tuple[str, ...]]]] = field(default_factory=dict)
    tag_counts: Mapping[str, TagCountRow] = field(default_factory=dict)
    cooccurrence: Mapping[tuple[str, str], int] = field(default_factory=dict)
    solver_rows: Mapping[ProbeKey, SolverRow] = field(default_factory=dict)
    norms: Mapping[str, np.ndarray] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    unseen: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    zero_shot: Mapping[ProbeKey, Sequence[ZeroShotRow]] = field(default_factory=dict)
    map: Mapping[ProbeKey, Sequence[MapRow]] = field(default_factory=dict)

    @property
    def configuration(self) -> Mapping[str, Any]:
        return self.run["configuration"]

    @property
    def embeddings(self) -> tuple[str, ...]:
        return tuple(self.configuration["embeddings"])

    @property
    def solver(self) -> str:
        return str(self.configuration["solver"]["name"])

    @cached_property
    def words(self) -> WordsConfig:
        """Its settings of words; `directory` is empty where it used none."""
        return from_json(WordsConfig, self.configuration.get("words") or {})

    @property
    def trained_in_epochs(self) -> bool:
        """Did its solver start at random and see the clips in random order?"""
        return self.solver in SOLVERS and SOLVERS[self.solver].steps is not None

    @property
    def validation(self) -> str:
        """What chose strengths and epochs: `valid`, `support` or `none`; `none` for a solver that
        chooses nothing.
        """
        asked = str(self.configuration["solver"].get("validation", "valid"))  # older: always valid
        return validation_of(self.solver, asked) if self.solver in SOLVERS else asked

    @property
    def test_clips(self) -> str:
        """`all`, or `tagged`: only test clips with at least one of the probe's tags."""
        return str(self.configuration["grid"].get("test_clips", "all"))

    @property
    def manifest(self) -> str:
        return str(self.configuration["manifest_sha256"])

    @property
    def stores(self) -> dict[str, str]:
        """Name → hash of the features, in the order of `combined`."""
        return dict(self.configuration["stores"])

    @property
    def parts(self) -> list[tuple[str, int]]:
        """(store, width) of `combined`, in order; empty if not recorded."""
        return [(str(name), int(width)) for name, width in self.run.get("combined_parts") or ()]

    @property
    def dataset(self) -> str:
        return str((self.run.get("dataset") or {}).get("name") or "unnamed data set")

    @property
    def clips(self) -> dict[str, int]:
        """Number of clips per split; empty if not recorded."""
        return {
            str(split): int(count)
            for split, count in ((self.run.get("dataset") or {}).get("clips") or {}).items()
        }

    def keys(self, embedding: str) -> list[ProbeKey]:
        """Every probe that was asked for."""
        return probe_keys(self.grid, embedding, self.solver, self.words)

    @cached_property
    def missing(self) -> dict[str, list[ProbeKey]]:
        """Per embedding, the probes that were asked for and have no row."""
        lacking = {
            name: [key for key in self.keys(name) if key not in self.probes]
            for name in self.embeddings
        }
        return {name: keys for name, keys in lacking.items() if keys}

    @cached_property
    def unscored(self) -> Counter[str]:
        """Tags without a metric in some probe that did not diverge → in how many."""
        return Counter(
            row.tag
            for key, rows in self.tags.items()
            if not self.probes[key].diverged
            for row in rows
            if math.isnan(row.average_precision)
        )

    def cells(self, embedding: str) -> list[tuple[int, KShot]]:
        """(n_way, k_shot) with at least one finished probe, in the order of the grid."""
        return list(
            dict.fromkeys(
                (key.n_way, key.k_shot) for key in self.keys(embedding) if key in self.probes
            )
        )

    def largest_cell(self, k_shots: Collection[KShot]) -> tuple[int, KShot]:
        """Of the finished cells at the given K: the largest N, then the largest K."""
        cells = [cell for cell in cells_of([self]) if cell[1] in k_shots]
        return cells[-1] if cells else (0, FULL)

    def rows(
        self, embedding: str, n_way: int, k_shot: KShot, variant: tuple[str, str] | None = None
    ) -> dict[int, ProbeRow]:
        """Seed → row of the finished probes of a cell. variant: (zero_shot, prior); None: the first
        that the sweep was asked for.
        """
        mine = variant or self.words.variants(k_shot)[0]
        keys = (
            ProbeKey(embedding, self.solver, n_way, k_shot, seed, *mine) for seed in self.grid.seeds
        )
        return {key.seed: self.probes[key] for key in keys if key in self.probes}

    def rows_by_tag(
        self, embeddings: Sequence[str], n_way: int, k_shot: KShot
    ) -> dict[str, dict[str, list[TagRow]]]:
        """Tag → embedding → rows of a cell, over the seeds that drew the tag; every embedding has
        an entry.
        """
        found: dict[str, dict[str, list[TagRow]]] = {}
        for name in embeddings:
            for probe in self.rows(name, n_way, k_shot).values():
                for row in self.tags[probe.key]:
                    found.setdefault(row.tag, {name: [] for name in embeddings})[name].append(row)
        return found

    def by_rank(self, tags: Iterable[str]) -> list[str]:
        """The tags, most frequent first; those without a count come last."""
        counts = self.tag_counts
        return sorted(tags, key=lambda tag: (counts[tag].rank if tag in counts else math.inf, tag))

    def values(
        self,
        embedding: str,
        n_way: int,
        k_shot: KShot,
        metric: str = "mAP",
        variant: tuple[str, str] | None = None,
    ) -> dict[int, float]:
        """Seed → metric of a cell; NaN where it is empty. variant: as in `rows`."""
        rows = self.rows(embedding, n_way, k_shot, variant)
        return {seed: getattr(row, metric) for seed, row in rows.items()}

    def summary(
        self,
        embedding: str,
        n_way: int,
        k_shot: KShot,
        metric: str = "mAP",
        variant: tuple[str, str] | None = None,
    ) -> Summary:
        """Mean of the metric over the seeds of a cell, with its interval."""
        return summarise(list(self.values(embedding, n_way, k_shot, metric, variant).values()))

    def chance(
        self, embeddings: Sequence[str], n_ways: Sequence[int], k_shots: Sequence[KShot]
    ) -> float:
        """Mean chance mAP over all finished probes of the cells."""
        return mean_of(
            [
                value
                for name in embeddings
                for n_way in n_ways
                for k_shot in k_shots
                for value in self.values(name, n_way, k_shot, "chance_mAP").values()
            ]
        )

    def weight_norms(self, embedding: str, n_way: int, k_shot: KShot) -> dict[int, np.ndarray]:
        """Seed → float32 `[dim]` for the finished probes of a cell; empty if not recorded."""
        if embedding not in self.norms:
            return {}
        place = {key: i for i, key in enumerate(self.keys(embedding))}
        found = {
            seed: np.asarray(self.norms[embedding][place[row.key]], np.float64)
            for seed, row in self.rows(embedding, n_way, k_shot).items()
        }
        return {seed: norms for seed, norms in found.items() if not np.isnan(norms).any()}

    def support(
        self, n_way: int, k_shot: KShot, seed: int
    ) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What the probes of a cell learn from: (tag, support clips) in order, the tags alone where
        K is `full`.

        Empty if not recorded: episodes.csv lists tags by their support clips, a full probe's own
        rows list them too.
        """
        if isinstance(k_shot, int):
            return tuple(
                (tag, clips[:k_shot])
                for position, (tag, clips) in sorted(self.episodes.get(seed, {}).items())
                if position < n_way
            )
        probes = (self.rows(name, n_way, k_shot).get(seed) for name in self.embeddings)
        found = next(filter(None, probes), None)
        return tuple((row.tag, ()) for row in self.tags[found.key]) if found else ()


def cells_of(sweeps: Iterable[SweepResults]) -> list[tuple[int, KShot]]:
    """(n_way, k_shot) with at least one finished probe of any embedding, by N, then by K."""
    found = {cell for sweep in sweeps for name in sweep.embeddings for cell in sweep.cells(name)}
    return in_order(found)


def in_order(cells: Iterable[tuple[int, KShot]]) -> list[tuple[int, KShot]]:
    """By N, then by K."""
    return sorted(cells, key=lambda cell: (cell[0], shot_order(cell[1])))


def grouped(
    sweeps: Iterable[SweepResults], key: Callable[[SweepResults], Hashable]
) -> list[list[SweepResults]]:
    """Those of one key together, in the order given."""
    found: defaultdict[Hashable, list[SweepResults]] = defaultdict(list)
    for sweep in sweeps:
        found[key(sweep)].append(sweep)
    return list(found.values())
