"""What a batch is asked for, probe by probe, and what it returns."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fsprobe.heads.data import Task
from fsprobe.heads.evaluate import TagMetrics
from fsprobe.heads.head import Head


@dataclass(frozen=True, eq=False)
class ProbeSpec:
    """One probe to train, on the host.

    key: the caller's name for it, handed back with the result. support: rows of Data.train; tags:
    columns of the labels. folds: int `[clip]`, of the support in cross-validation; None: all 0.
    full: support is every training clip there is. prior: of Data.priors, or None.
    """

    key: Any
    seed: int
    support: np.ndarray
    tags: np.ndarray
    full: bool = False
    folds: np.ndarray | None = None
    prior: int | None = None


@dataclass(frozen=True)
class Wanted:
    """What is returned of a probe besides its metrics, and on which clips it is tested.

    tagged: on test clips with at least one of its tags. norms: the L1 norm over tags of each
    feature's weights. heads: the heads themselves.
    """

    tagged: bool = False
    norms: bool = False
    heads: bool = False


class Outcome(NamedTuple):
    """The result of one probe. metrics: of arrays `[n_way]`. val_loss: NaN where nothing is
    validated. best_epoch, epochs: of a probe trained in epochs; else the iterations of its fits.

    l2, gradient_norm, gap: of a converged probe; clips_cut, scale: see
    `fsprobe.heads.solvers.solver.Fitted`.
    weight_norms: float32 `[dim]`; head: of arrays `[tag, …]`; None if not asked for.
    """

    spec: ProbeSpec
    metrics: TagMetrics
    val_loss: float
    best_epoch: int
    epochs: int
    l2: float = float("nan")
    gradient_norm: float = float("nan")
    gap: float = float("nan")
    weight_norms: np.ndarray | None = None
    head: Head | None = None
    clips_cut: int = 0
    scale: float = float("nan")


def grouped(
    specs: Iterable[ProbeSpec], key: Callable[[ProbeSpec], Any]
) -> dict[Any, list[ProbeSpec]]:
    """The specs of each key, in their order."""
    groups: dict[Any, list[ProbeSpec]] = {}
    for spec in specs:
        groups.setdefault(key(spec), []).append(spec)
    return groups


def padded_tasks(
    specs: Sequence[ProbeSpec | None],
    places: Sequence[int] | np.ndarray,
    shape: tuple[int, int, int],
    unions: dict[int, np.ndarray] | None = None,
) -> Task:
    """Tasks of NumPy arrays with a leading axis, each spec at its place, filled up with tasks that
    have no clips.

    shape: places, support clips, tags. unions: by seed, sorted rows; support sets become positions
    in them.
    """
    count, n_clips, n_tags = shape
    support, folds = np.zeros((2, count, n_clips), np.int32)
    tags = np.zeros((count, n_tags), np.int32)
    seed, num_support, n_way, prior = np.zeros((4, count), np.int32)
    for i, spec in zip(places, specs, strict=True):
        if spec is None:
            continue
        size = len(spec.support)
        rows = spec.support if unions is None else np.searchsorted(unions[spec.seed], spec.support)
        support[i, :size] = rows
        if spec.folds is not None:
            folds[i, :size] = spec.folds
        tags[i, : len(spec.tags)] = spec.tags
        seed[i], num_support[i], n_way[i] = spec.seed, size, len(spec.tags)
        prior[i] = spec.prior or 0
    return Task(seed, support, num_support, folds, tags, n_way, prior)  # type: ignore[arg-type]
