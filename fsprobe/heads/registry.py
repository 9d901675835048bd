"""The solvers there are. Add one: a module with a `SOLVER`, and its line here."""

from fsprobe.heads import adam, logistic
from fsprobe.heads.solver import Solver

SOLVERS: dict[str, Solver] = {module.SOLVER.name: module.SOLVER for module in (adam, logistic)}
