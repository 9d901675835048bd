"""From audio to features with the tagger's own options, each of them."""

import pytest

from extract.embeddings.registry import MODELS
from fsprobe.tagger.audio_files.extraction import options
from fsprobe.tagger.tagger import Source

ELSEWHERE = {"weights", "cache_dir"}  # where the weights lie is the user's affair


def source(embedding, **provenance):
    settings = {"sample_rate": 16_000, "window": 1.5, "hop": 0.5}
    return Source("mine", embedding, "features", 4, 4, "mean_std", settings, provenance)


@pytest.mark.parametrize("embedding", MODELS)
def test_every_option_that_makes_other_numbers_is_passed_on(embedding):
    flags = {option.flag for option in MODELS[embedding].options} - ELSEWHERE
    said = {
        "weights": "random, seed 7",
        "precision": "bfloat16",
        "backend": "jax",
        "variant": "torchopenl3",
        "mode": "timestamp",
        "model": "MSD_musicnn",
        "layer": "cnn1",
        "tail": "drop",
    }
    recorded = {key: value for key, value in said.items() if flags & {key, f"{embedding}_{key}"}}
    recorded |= {"weights": said["weights"]} if "random_weights" in flags else {}
    found = options(source(embedding, **recorded))
    assert set(found) == flags
    assert found.get("precision", "bfloat16") == "bfloat16"
    assert found.get("random_weights", "7") == "7"


def test_what_a_store_does_not_say_is_left_to_the_embedding():
    assert options(source("vggish", weights={"w.pth": "ab" * 32})) == {}
    scene = options(source("passt", mode="scene", backend="jax"))
    assert scene == {"passt_mode": "scene", "backend": "jax"}
