"""Extraction of four real recordings, one of them an mp3 of MagnaTagATune."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from extract.audio.decoding import decode
from extract.embeddings import build
from extract.manifest import Manifest
from extract.pipeline.extract_clips import RunConfig, extract_clips
from extract.storage.check import verify
from extract.store import open_store


@pytest.fixture
def recordings(real_data: Path) -> list[Path]:
    files = sorted(
        file for file in (real_data / "audio").iterdir() if file.suffix in (".mp3", ".ogg")
    )
    assert len(files) == 4
    return files


def test_decoding(recordings: list[Path]) -> None:
    for file in recordings:
        info = soundfile.info(file)
        for rate in (16_000, 22_050, 32_000, 48_000):
            samples = decode(file, rate)
            assert np.isfinite(samples).all()
            assert 0.01 < np.abs(samples).max() < 1.5  # lossy formats overshoot a little
            # libsndfile's frame count of an mp3 is an estimate
            assert len(samples) / rate == pytest.approx(info.duration, abs=0.2)


def test_the_mp3_is_29_seconds_at_16_khz(recordings: list[Path]) -> None:
    (mp3,) = (file for file in recordings if file.suffix == ".mp3")
    assert 29.0 < len(decode(mp3, 16_000)) / 16_000 < 29.4


def test_logmel_of_a_folder_with_a_broken_file(recordings: list[Path], tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    for file in recordings:
        (audio / file.name).write_bytes(file.read_bytes())
    (audio / "cut.mp3").write_bytes(recordings[1].read_bytes()[:50_000])
    (audio / "empty.mp3").write_bytes(b"")
    names = tuple(sorted(file.name for file in audio.iterdir()))
    manifest = Manifest(names, names, ("train",) * 6, ((),) * 6)
    summary = extract_clips(
        manifest, audio, build("logmel"), tmp_path / "s", RunConfig(num_workers=2, keep_frames=True)
    )
    assert (summary.done, summary.failed) == (5, 1)
    assert verify(tmp_path / "s").problems == ()
    store = open_store(tmp_path / "s")
    assert (
        tmp_path / "s" / "failures.csv"
    ).read_text() == "clip_id,reason\nempty.mp3,empty file (0 bytes)\n"
    rows = store.rows("features", [names.index(file.name) for file in recordings])
    assert (rows[:, 128:220] > 0.5).all()  # dB: music moves in every band that the mp3 has
    assert np.linalg.norm(rows[0] - rows[1]) > 10
