"""Products of the public functions ask for float32, on whatever device: read off the programs that
JAX hands to the compiler.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import fsprobe
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.heads.words.eszsl import zero_shot_heads
from fsprobe.heads.words.mixture import heads_from_words, leave_one_out

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 6)).astype(np.float32)
LABELS = RNG.random((30, 4)) < 0.4
WORDS = RNG.standard_normal((4, 3)).astype(np.float32)
SEEN = np.array([[True, True, True, False]])


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Path]:
    """Where JAX writes every program that it compiles inside the test."""
    jax.clear_caches()
    jax.config.update("jax_dump_ir_to", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_dump_ir_to", "")
    jax.clear_caches()


def precisions(folder: Path) -> list[str]:
    """Of every matrix product in the programs."""
    return [
        "HIGHEST" if line.count("HIGHEST") == 2 else "less"
        for path in sorted(folder.iterdir())
        for line in path.read_text().splitlines()
        if re.search(r"\bdot_general\b", line) and "tensor<" in line and "xf64" not in line
    ]


def head() -> fsprobe.Head:
    return fsprobe.Head(*(RNG.standard_normal(shape).astype(np.float32) for shape in ((4, 6), 4)))


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_fit_and_score(programs: Path, solver: str) -> None:
    fsprobe.score(fsprobe.fit(X, LABELS, solver=solver, validation="none"), X)
    found = precisions(programs)
    assert found and set(found) == {"HIGHEST"}


def test_heads_of_words_are_in_float64(programs: Path) -> None:
    zero_shot_heads(X, LABELS, WORDS, SEEN, (X, LABELS))
    heads_from_words(head(), WORDS, WORDS[:2], X)
    leave_one_out(head(), WORDS, X)
    assert precisions(programs) == []


def test_a_chosen_precision_stays(programs: Path) -> None:
    with jax.default_matmul_precision("tensorfloat32"):
        fsprobe.score(head(), X)
    assert precisions(programs) == ["less"]
