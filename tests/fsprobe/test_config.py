"""Configurations: to JSON and back, what they refuse, and where their flags come from."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from extract.errors import InputError
from fsprobe.config import FULL, GridConfig, SolverConfig, SweepConfig, from_json, to_json
from fsprobe.words.config import WordsConfig

SWEEP = SweepConfig(
    manifest="m.csv",
    stores=(("a", "x"), ("b", "y")),
    embeddings=("a+b", "combined"),
    out="out",
    missing="drop",
    weight_norms=True,
    save_heads=True,
    dataset="clips",
    timeout_minutes=2.5,
    device_memory_gb=1.5,
    grid=GridConfig((1, 7), (1, 3, FULL), 9, 3, "top:20", "fewer", "tagged"),
    solver=SolverConfig("lbfgs", l2=0.25, validation="support", standardize="frame"),
)


@pytest.mark.parametrize(
    "config",
    [
        SWEEP,
        SolverConfig(),
        SolverConfig(hidden=3, restore_best=False, l2="auto"),
        GridConfig(),
        SweepConfig("m", (("a", "x"),), ("a",), "o"),
    ],
)
def test_to_json_and_back(config):
    written = json.loads(json.dumps(to_json(config), allow_nan=False))
    assert set(written) == {item.name for item in fields(config)}
    back = from_json(type(config), written)
    assert back == config and hash(back) == hash(config)


def test_values_of_another_version():
    """Fields that came later have their defaults; those that are gone are ignored."""
    written = to_json(SWEEP)
    del written["solver"]["validation"], written["grid"]["test_clips"], written["missing"]
    back = from_json(SweepConfig, written | {"gone": 1})
    assert back.solver.validation == "valid" and back.grid.test_clips == "all"
    assert back.missing == "error" and back.grid.k_shot == SWEEP.grid.k_shot


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (GridConfig, {"n_way": 3}),
        (GridConfig, {"n_way": ["two"]}),
        (GridConfig, {"n_way": [0]}),
        (GridConfig, {"num_seeds": "many"}),
        (GridConfig, {"num_seeds": 2.5}),
        (GridConfig, {"num_seeds": True}),
        (GridConfig, {"n_way": [2.5]}),
        (GridConfig, {"k_shot": [1.5]}),
        (GridConfig, {"tags": 50}),
        (SolverConfig, {"learning_rate": "x"}),
        (SolverConfig, {"weight_decay": None}),
        (SolverConfig, {"unlabelled_weight": [0.1]}),
        (SolverConfig, {"restore_best": 1}),
        (SolverConfig, {"patience": 2.5}),
        (SolverConfig, {"name": 3}),
        (WordsConfig, {"seen": "most"}),
        (WordsConfig, {"zero_shot": "eszsl"}),
        (WordsConfig, {"directory": 3}),
        (SweepConfig, to_json(SWEEP) | {"dataset": 3}),
        (SweepConfig, to_json(SWEEP) | {"weight_norms": "no"}),
        (SweepConfig, to_json(SWEEP) | {"timeout_minutes": "1"}),
        (SweepConfig, to_json(SWEEP) | {"embeddings": [1]}),
        (SweepConfig, to_json(SWEEP) | {"stores": [["a", 1]]}),
        (SolverConfig, {"l2": None}),
        (SolverConfig, {"validation": "test"}),
        (SolverConfig, {"batch_size": {}}),
        (SweepConfig, to_json(SWEEP) | {"grid": 3}),
        (SweepConfig, to_json(SWEEP) | {"solver": ["lbfgs"]}),
        (SweepConfig, to_json(SWEEP) | {"stores": [["a"]]}),
        (SweepConfig, {}),
        (SolverConfig, 3),
        (SolverConfig, None),
    ],
)
def test_values_that_it_cannot_have_had(kind, values):
    with pytest.raises(InputError):
        from_json(kind, values)


def test_a_whole_number_is_a_float_too():
    assert from_json(SolverConfig, {"learning_rate": 1, "l2": 2}) == SolverConfig(
        learning_rate=1.0, l2=2.0
    )


def test_run_json_has_hashes_in_place_of_the_words_directory():
    words = from_json(WordsConfig, {"directory": ["0" * 64, "1" * 64], "prior": ["none", "words"]})
    assert words.variants(0) == [("eszsl", "words")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridConfig(n_way=(0,)), "`n_way=0`"),
        (lambda: GridConfig(k_shot=("some",)), "`k_shot=some`"),
        (lambda: GridConfig(num_seeds=0), "`num_seeds=0`"),
        (lambda: GridConfig(seed=2**31 - 1, num_seeds=2), "`seed=2147483647`"),
        (lambda: GridConfig(on_scarce="more"), "`on_scarce=more`: use one of error, fewer"),
        (lambda: SolverConfig(l2=0.0), "`l2=0.0`"),
        (lambda: SolverConfig(l2=float("nan")), "`l2=nan`"),
        (lambda: SolverConfig(l2=float("inf")), "`l2=inf`"),
        (lambda: SolverConfig(learning_rate=float("nan")), "`learning_rate=nan`"),
        (lambda: SolverConfig(weight_decay=-1.0), "`weight_decay=-1.0`"),
        (lambda: SolverConfig(hidden=-1), "`hidden=-1`"),
        (lambda: SolverConfig(max_epochs=0), "`max_epochs=0`"),
        (lambda: SolverConfig(standardize="all"), "`standardize=all`: use one of none, train"),
        (lambda: SweepConfig(), "`manifest` is required"),
        (lambda: SweepConfig("m", (("a", "x"), ("a", "y")), (), "o"), "'a' is given twice"),
    ],
)
def test_a_library_names_the_argument(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value) and "--" not in str(caught.value).replace("--help", "")


def test_configurations_are_frozen():
    with pytest.raises(FrozenInstanceError):
        SWEEP.grid.seed = 1  # type: ignore[misc]


def test_every_field_is_a_flag_with_its_default_and_help():
    """One place for both: the help of the command has every field's text."""
    shown = subprocess.run(
        [sys.executable, "-m", "fsprobe.sweep", "--help"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    plain = " ".join(shown.split())
    for kind in (SweepConfig, GridConfig, SolverConfig):
        for item in fields(kind):
            if text := item.metadata.get("help"):
                name = item.metadata["flag"] or item.name
                assert f"--{name}:" in plain or f"--[no]{name}:" in plain, name
                assert " ".join(text.split())[:40] in plain, name


def test_embeddings_are_every_store_unless_they_are_said_and_each_once():
    stores = (("a", "x"), ("b", "y"))
    assert SweepConfig("m", stores, (), "o").embeddings == ("a", "b", "combined")
    assert SweepConfig("m", stores[:1], (), "o").embeddings == ("a",)
    assert SweepConfig("m", stores, ("b", "a+b", "b"), "o").embeddings == ("b", "a+b")


@pytest.mark.parametrize("values", [(), (2, 2)])
def test_a_grid_has_each_value_once(values):
    for name in ("n_way", "k_shot"):
        with pytest.raises(InputError, match=f"`{name}=.*each once"):
            GridConfig(**{name: values})
