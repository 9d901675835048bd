"""From audio to features with the tagger's own options, each of them."""

import pytest

from extract.embeddings.registry import MODELS
from extract.manifest import audio_files
from fsprobe.tagger.audio_files.extraction import find_audio, options
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


def test_audio_is_found_as_extract_prepare_finds_it(tmp_path):
    """A link to nothing stopped the tagging of all, and what is hidden had tags."""
    for name in ("a.wav", "B/c.MP3", ".trash/d.wav", "B/._c.mp3", "B/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "gone.flac").symlink_to(tmp_path / "nowhere.flac")
    assert find_audio(tmp_path) == (tmp_path, audio_files(tmp_path))
    assert find_audio(tmp_path) == (tmp_path, ["B/c.MP3", "a.wav"])
