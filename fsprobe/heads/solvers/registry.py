"""The solvers there are. Add one: a module with a `SOLVER`, and its line here."""

from fsprobe.config import SolverConfig
from fsprobe.heads import unlabelled
from fsprobe.heads.solvers import adam, lc_protonets, logistic, prototypes, ridge
from fsprobe.heads.solvers.solver import Solver

SOLVERS: dict[str, Solver] = {
    module.SOLVER.name: module.SOLVER
    for module in (adam, logistic, ridge, prototypes, lc_protonets)
}


def solver_of(config: SolverConfig) -> Solver:
    """The solver of a configuration."""
    return SOLVERS[config.name] if config.unlabelled == "none" else unlabelled.SOLVER


def validation_of(solver: str, validation: str) -> str:
    """The validation that a solver really uses: `none` where it chooses nothing."""
    return validation if "validation" in SOLVERS[solver].settings else "none"
