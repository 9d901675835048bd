"""Windows of decoded clips: what a clip that has too many of them costs."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from extract.errors import InputError
from extract.manifest import Manifest
from extract.pipeline.extract_clips import RunConfig, extract_clips
from extract.store import DONE, FAILED, open_store
from tests.support import fake_embedding


def test_a_clip_with_too_many_windows_fails_alone(tmp_path: Path) -> None:
    lengths = {"a": 900, "long": 5000, "b": 2000}
    rng = np.random.default_rng(0)
    for name, length in lengths.items():
        soundfile.write(tmp_path / f"{name}.wav", 0.3 * rng.standard_normal(length), 8000)
    names = tuple(lengths)
    clips = Manifest(names, tuple(f"{n}.wav" for n in names), ("train",) * 3, ((),) * 3)

    def windows(audio: np.ndarray) -> np.ndarray:
        if len(audio) == lengths["long"]:
            raise InputError("too many windows")
        return fake_embedding.windows(audio)

    embedding = replace(fake_embedding.build(), windows=windows)
    summary = extract_clips(clips, tmp_path, embedding, tmp_path / "s", RunConfig(num_workers=1))
    assert (summary.done, summary.failed) == (2, 1)
    store = open_store(tmp_path / "s")
    assert store.status.tolist() == [DONE, FAILED, DONE]
    assert store.seconds is not None
    assert (store.seconds > 0).tolist() == [True, False, True]  # nothing was made of what it has
    with (tmp_path / "s" / "failures.csv").open(newline="") as file:
        assert [*csv.reader(file)][1:] == [["long", "too many windows"]]
