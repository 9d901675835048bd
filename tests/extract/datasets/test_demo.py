"""extract.datasets.demo: a corpus that is the same wherever it is made, with tags that can be
heard.
"""

import collections
import io
import os
import wave

import numpy as np
import pytest

from extract.datasets.demo import (
    FACTORS,
    LENGTH,
    DemoConfig,
    demo_manifest,
    encode_wav,
    synthesise,
    write_demo,
)
from extract.datasets.synth import INSTRUMENTS, SAMPLE_RATE, Note
from extract.errors import InputError

SMALL = DemoConfig(num_clips=20)


def files(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_bytes_depend_on_the_seed_alone(tmp_path):
    first = write_demo(SMALL, tmp_path / "a")
    assert write_demo(SMALL, tmp_path / "b") == first
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert set(files(tmp_path / "a")) == set(first.paths)
    other = synthesise(first.tags[0], np.random.default_rng([1, 0, 1]))
    assert encode_wav(other) != (tmp_path / "a" / first.paths[0]).read_bytes()


def test_second_run_writes_only_what_is_missing(tmp_path):
    manifest = write_demo(SMALL, tmp_path)
    made = files(tmp_path)
    lost, cut, kept = (tmp_path / path for path in manifest.paths[:3])
    lost.unlink()
    os.truncate(cut, 1000)
    os.utime(kept, (0, 0))
    write_demo(SMALL, tmp_path)
    assert files(tmp_path) == made
    assert kept.stat().st_mtime == 0


def test_audio_is_what_the_manifest_promises(tmp_path):
    manifest = write_demo(SMALL, tmp_path)
    for path in manifest.paths:
        with wave.open(str(tmp_path / path)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (
                1,
                2,
                SAMPLE_RATE,
            )
            assert file.getnframes() == LENGTH >= 4 * SAMPLE_RATE
            samples = np.frombuffer(file.readframes(LENGTH), "<i2")
        assert np.abs(samples).max() > 100


@pytest.mark.parametrize("seed", range(5))
def test_long_tail_with_enough_positives_in_every_split(seed):
    manifest = demo_manifest(DemoConfig(seed=seed))
    assert len(manifest) >= 600
    counts = {
        split: collections.Counter(
            tag
            for own, tags in zip(manifest.splits, manifest.tags, strict=True)
            if own == split
            for tag in tags
        )
        for split in ("train", "valid", "test")
    }
    total = sum(counts.values(), collections.Counter())
    assert len(total) >= 20
    assert max(total.values()) > 4 * min(total.values())
    assert np.mean([len(tags) for tags in manifest.tags]) > 2
    # 30 leaves 10 shots even where the tags before it in an episode have taken half of its clips.
    assert min(counts["train"][tag] for tag in total) >= 30
    assert min(counts["valid"][tag] for tag in total) >= 3
    assert min(counts["test"][tag] for tag in total) >= 5


def test_seeds_differ_and_exclusive_tags_exclude():
    manifest = demo_manifest(DemoConfig())
    assert manifest.tags != demo_manifest(DemoConfig(seed=1)).tags
    assert set(manifest.paths).isdisjoint(demo_manifest(DemoConfig(seed=1)).paths)
    for tags in manifest.tags:
        assert all(len(factor.keys() & set(tags)) <= 1 for factor in FACTORS)


@pytest.mark.parametrize("name", [name for name in INSTRUMENTS if name != "drums"])
def test_instruments_play_the_pitch_they_are_given(name):
    # 220 Hz for 2 s: of the semitones around it, 220 Hz must be the strongest. Vibrato and strings
    # of whole-sample
    # period stay within 5 Hz, the next semitones are 12 Hz away.
    note = Note(0, 2 * SAMPLE_RATE, 57)
    sound = INSTRUMENTS[name]([note], note.length, np.random.default_rng(0))
    assert np.isfinite(sound).all()
    assert 0.1 < np.abs(sound).max() < 12
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    frequency = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    levels = [
        power[np.abs(frequency - 220 * 2 ** (step / 12)) < 5].max() for step in (-2, -1, 0, 1, 2)
    ]
    assert levels[2] > 4 * max(levels[:2] + levels[3:])


def test_loud_is_louder_than_quiet():
    def levels(tag):
        return [
            np.sqrt(np.mean(synthesise(("drums", tag), np.random.default_rng(i)) ** 2))
            for i in range(4)
        ]

    assert min(levels("loud")) > 5 * max(levels("quiet"))


def test_too_few_clips_is_bad_input():
    with pytest.raises(InputError, match="num_clips=19"):
        DemoConfig(num_clips=19)


def test_encode_wav_round_trip():
    samples = np.array([-1.0, 0.0, 0.5, 1.0])
    with wave.open(io.BytesIO(encode_wav(samples))) as file:
        read = np.frombuffer(file.readframes(4), "<i2") / 32767
    np.testing.assert_allclose(read, samples, atol=0.5 / 32767)  # half a quantisation step
