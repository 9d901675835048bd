"""The solvers there are. Add one: a module with a `SOLVER`, and its line here."""

from dataclasses import replace

import numpy as np

from fsprobe.config import SolverConfig
from fsprobe.heads.solvers import adam, lc_protonets, logistic, prototypes, ridge
from fsprobe.heads.solvers.solver import Settings, Solver

SOLVERS: dict[str, Solver] = {
    module.SOLVER.name: module.SOLVER
    for module in (adam, logistic, ridge, prototypes, lc_protonets)
}


def solver_of(config: SolverConfig) -> Solver:
    """The solver of a configuration: with unlabelled clips, the one whose `cell` learns from them,
    which takes neither inner products nor priors.
    """
    solver = SOLVERS[config.name]
    if config.unlabelled == "none":
        return solver
    return replace(solver, cell=solver.unlabelled_cell, needs_products=False, takes_priors=False)


def settings_of(config: SolverConfig) -> Settings:
    """The settings of a solver that does not train in epochs."""
    return Settings(
        None if isinstance(config.l2, str) else np.float32(config.l2),  # type: ignore[arg-type]
        config.validation,
        unlabelled=config.unlabelled,
        unlabelled_weight=np.float32(config.unlabelled_weight),  # type: ignore[arg-type]
    )


def solvers_with(setting: str) -> list[str]:
    """The names of the solvers that use a field of SolverConfig."""
    return [solver.name for solver in SOLVERS.values() if setting in solver.settings]


def validation_of(solver: str, validation: str) -> str:
    """The validation that a solver really uses: `none` where it chooses nothing."""
    return validation if "validation" in SOLVERS[solver].settings else "none"
