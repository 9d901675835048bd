import pickle

import librosa
import numpy as np
import pytest

from extract.embeddings import build, logmel


def test_equals_librosa() -> None:
    audio = np.random.default_rng(0).standard_normal(60_000).astype(np.float32)
    expected = librosa.power_to_db(
        librosa.feature.melspectrogram(y=audio, sr=logmel.SAMPLE_RATE), top_db=None
    ).T
    np.testing.assert_allclose(
        logmel.frames(audio), expected, atol=1e-4
    )  # dB; the same sums in other blocks


@pytest.mark.parametrize("block", [1, 7])
def test_blocks_do_not_show(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    whole = logmel.frames(audio)
    monkeypatch.setattr(logmel, "_BLOCK", block)
    np.testing.assert_allclose(logmel.frames(audio), whole, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 511, 512, 2047, 2048, 2049])
def test_short_clips(samples: int) -> None:
    frames = logmel.frames(np.ones(samples, np.float32))
    assert frames.shape == (1 + samples // logmel.HOP, logmel.N_MELS)
    assert np.isfinite(frames).all()


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(logmel.frames(np.zeros(5000, np.float32)), -100, atol=1e-4)


def test_a_read_only_map_is_fine_and_stays_as_it_was() -> None:
    audio = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    audio.flags.writeable = False
    copy = audio.copy()
    logmel.frames(audio)
    np.testing.assert_array_equal(audio, copy)


def test_build_says_what_it_is_and_travels_to_workers() -> None:
    embedding = build("logmel")
    assert (embedding.name, embedding.dim, embedding.sample_rate) == ("logmel", 128, 22_050)
    assert embedding.hop == pytest.approx(512 / 22_050)
    assert embedding.provenance["package"] == "librosa"
    assert pickle.loads(pickle.dumps(embedding.clip_frames)) is logmel.frames
