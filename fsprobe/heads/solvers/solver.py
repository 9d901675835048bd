"""What a solver is: one module of this folder, with a `Solver`, and one line in the registry.

A solver says how ONE probe is fitted. `fsprobe.batch` maps it over many, by what it offers: `steps`
where it trains in epochs, `cell` where it fits one probe at a time, `path` where it fits all tags
of a support set at once over a path of strengths, which probes with that support set then share.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jax import Array

from fsprobe.heads.data import Data, Task

SCALES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of a prior; 0, so that words that mislead can be left


class Steps(NamedTuple):
    """A fit in epochs, as three pure functions of one probe. A state has a field `progress`, a
    `fsprobe.heads.early_stopping.Progress`.

    init(task, data) → state; it reads no support clip. advance(state, task, data, num_epochs) →
    state after at least that many more epochs, unless done before. head(state) → the head to test.
    """

    init: Callable[[Task, Data], Any]
    advance: Callable[[Any, Task, Data, Array | int], Any]
    head: Callable[[Any], Any]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Settings:
    """Settings of a solver that does not train in epochs. l2: float32 `[]`, a strength, or None to
    choose one. validation: how it is chosen, as in SolverConfig. path: the relative strengths to
    choose from; empty: the solver's own. scales: of a prior, to choose from. unlabelled,
    unlabelled_weight (float32 `[]`): as in SolverConfig.
    """

    l2: Array | None
    validation: str = field(default="valid", metadata={"static": True})
    path: tuple[float, ...] = field(default=(), metadata={"static": True})
    scales: tuple[float, ...] = field(default=SCALES, metadata={"static": True})
    unlabelled: str = field(default="none", metadata={"static": True})
    unlabelled_weight: Array | None = None


class Products(NamedTuple):
    """Inner products of the clips of one seed: with each other `[clip, clip]` and with validation
    clips `[valid, clip]`. rows: int32 `[clip]`, rows of Data.train.
    """

    train: Array
    valid: Array
    rows: Array


class Fitted(NamedTuple):
    """One probe. head: of the task's tags. All others are `[]`. val_loss: the loss that chose the
    strength; l2: the strength; gradient_norm, gap: the largest over its tags, see
    `fsprobe.heads.descent.minimise.Fit`; iterations; clips_cut: support clips that had to be
    simplified, as `Solver.cut` says; scale: of a prior. What has a default does not apply to all.
    """

    head: Any
    val_loss: Any = float("nan")
    l2: Any = float("nan")
    gradient_norm: Any = float("nan")
    gap: Any = float("nan")
    iterations: Any = 0
    clips_cut: Any = 0
    scale: Any = float("nan")


class Path(NamedTuple):
    """All tags of one support set over a path of strengths. kernel: `[strength, tag, dim]`; bias,
    loss, gradient_norm, gap: `[strength, tag]`, loss being what chooses the strength; l2s:
    `[strength]`; iterations: int32 `[strength]`.
    """

    kernel: Array
    bias: Array
    loss: Array
    l2s: Array
    gradient_norm: Array
    gap: Array
    iterations: Array


@dataclass(frozen=True)
class Solver:
    """name: of --solver. about: a line of its help. settings: the fields of SolverConfig that it
    uses.

    steps(config, validate_every) → Steps. cell(task, products, data, settings) → Fitted; with
    `needs_products` task.support are positions in products, otherwise products is None.
    path(support, real, folds, valid, settings) → Path, of all tags in the labels; real: bool
    `[clip]`, False for padding. It is used where a support set is too large for `cell`, or where
    probes share one.

    unlabelled_cell: what stands for `cell` where a probe also learns from the training clips beside
    its support, as --unlabelled says; products is None.

    own_strengths: `fsprobe.fit` chooses a strength for each tag, and path has a last argument
    `prior`: None, or a Head that the penalty pulls to. takes_priors: cell uses Data.priors. shifts:
    the features may be centred, because an unpenalised bias makes up for it. linear: the head is a
    `Head`, if it has no hidden layer. head_size: numbers in a head, of n_tags and dim.

    baseline: a report compares it with the others. cut: what is said of probes with clips_cut > 0,
    after "12 of 60 probes".
    """

    name: str
    about: str
    settings: frozenset[str]
    steps: Callable[..., Steps] | None = None
    cell: Callable[[Task, Products | None, Data, Settings], Fitted] | None = None
    path: Callable[..., Path] | None = None
    unlabelled_cell: Callable[[Task, Products | None, Data, Settings], Fitted] | None = None
    needs_products: bool = False
    own_strengths: bool = False
    takes_priors: bool = False
    shifts: bool = False
    linear: bool = True
    head_size: Callable[[int, int], int] = lambda n_tags, dim: n_tags * (dim + 1)
    baseline: bool = False
    cut: str = ""

    def __post_init__(self) -> None:
        if ("unlabelled" in self.settings) != (self.unlabelled_cell is not None):
            raise ValueError(f"{self.name}: unlabelled is a setting, or unlabelled_cell is None")
        if self.own_strengths and self.path is None:
            raise ValueError(f"{self.name}: own_strengths need a path")
