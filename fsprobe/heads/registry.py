"""The solvers there are. Add one: a module with a `SOLVER`, and its line here."""

from fsprobe.heads import adam, lc_protonets, logistic, prototypes, ridge
from fsprobe.heads.solver import Solver

SOLVERS: dict[str, Solver] = {
    module.SOLVER.name: module.SOLVER
    for module in (adam, logistic, ridge, prototypes, lc_protonets)
}


def validation_of(solver: str, validation: str) -> str:
    """What a solver makes of a validation: `none` where there is nothing that it chooses."""
    return validation if "validation" in SOLVERS[solver].settings else "none"
