import numpy as np
import pytest

from extract.errors import InputError
from extract.store import open_store
from fsprobe.tagger.matching import match, parts_of
from tests.support.fake_tagger import random_tagger, write_store

WEIGHTS = {"weights": {"model.pt": "ab" * 32}, "variant": "openl3", "version": "1.0"}


@pytest.fixture
def features():
    return np.random.default_rng(0).standard_normal((6, 4))


def opened(path, features, **meta):
    return {path.name: open_store(write_store(path, features, **meta))}


def test_parts_of_singles_sums_and_all(tmp_path, features):
    stores = opened(tmp_path / "x", features) | opened(tmp_path / "y", features)
    assert [(p.name, p.array) for p in parts_of(stores, "x")] == [("x", "features")]
    framenorm = [("y", "features_framenorm"), ("x", "features_framenorm")]
    assert [(p.name, p.array) for p in parts_of(stores, "y+x")] == framenorm
    assert [(p.name, p.array) for p in parts_of(stores, "combined")] == framenorm[::-1]
    for unknown in ("z", "x+z", ""):
        with pytest.raises(InputError, match="unknown"):
            parts_of(stores, unknown)


def test_the_same_kind_of_store_is_taken_whatever_its_name_and_versions(tmp_path, features):
    provenance = dict(WEIGHTS)
    stores = opened(tmp_path / "a", features, embedding="m", provenance=provenance)
    tagger = random_tagger(("t",), parts_of(stores, "a"))
    later = provenance | {"version": "2.0", "batch_size": 7, "weights": {"other_name": "ab" * 32}}
    (part,) = match(tagger, opened(tmp_path / "b", features, embedding="m", provenance=later))
    assert part.name == "b"


@pytest.mark.parametrize(
    "meta",
    [
        {"embedding": "other"},
        {"provenance": WEIGHTS | {"weights": {"model.pt": "cd" * 32}}},
        {"provenance": WEIGHTS | {"weights": "random, seed 1"}},
        {"provenance": {}},
        {"provenance": WEIGHTS | {"variant": "torchopenl3"}},
        {"aggregation": "mean_std", "dim": 2},
        {"hop": 0.5},
    ],
)
def test_another_embedding_weights_aggregation_or_option_is_refused(tmp_path, features, meta):
    same = {"embedding": "m", "provenance": WEIGHTS, "hop": 0.1}
    tagger = random_tagger(("t",), parts_of(opened(tmp_path / "a", features, **same), "a"))
    with pytest.raises(InputError) as caught:
        match(tagger, opened(tmp_path / "b", features, **same | meta))
    message = str(caught.value)
    assert str(tmp_path / "b") in message and len(message) - len(str(tmp_path)) < 300


@pytest.mark.parametrize("of_tagger", [{}, {"precision": "float32"}, {"precision": "bfloat16"}])
@pytest.mark.parametrize("of_store", [{}, {"precision": "float32"}, {"precision": "bfloat16"}])
def test_rounded_features_are_others_and_no_word_on_it_means_float32(
    tmp_path, features, of_tagger, of_store
):
    stores = [
        opened(tmp_path / name, features, embedding="m", provenance=WEIGHTS | more)
        for name, more in (("a", of_tagger), ("b", of_store))
    ]
    tagger = random_tagger(("t",), parts_of(stores[0], "a"))
    if ("bfloat16" in of_tagger.values()) == ("bfloat16" in of_store.values()):
        assert match(tagger, stores[1])[0].name == "b"
        return
    with pytest.raises(InputError, match=r"its precision is .*float.*trained on .*float"):
        match(tagger, stores[1])


def test_a_tagger_of_two_stores_needs_both_by_name(tmp_path, features):
    stores = opened(tmp_path / "x", features) | opened(tmp_path / "y", features)
    tagger = random_tagger(("t",), parts_of(stores, "combined"))
    assert [part.name for part in match(tagger, dict(reversed(stores.items())))] == ["x", "y"]
    with pytest.raises(InputError, match="'y'"):
        match(tagger, {"x": stores["x"]})
