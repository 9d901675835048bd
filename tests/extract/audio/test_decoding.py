import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from extract.audio import decoding as audio
from extract.audio import samples
from extract.audio.decoding import AudioError, decode


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def write(path: Path, samples: np.ndarray, rate: int, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 192_000])
def test_any_rate_and_any_number_of_channels_become_the_same_tone(
    tmp_path: Path, rate: int, channels: int
) -> None:
    source = np.repeat(tone(0.48, rate)[:, None], channels, axis=1)
    got = decode(write(tmp_path / "a.wav", source, rate, subtype="FLOAT"), 16_000)
    assert got.dtype == np.float32
    assert got.shape == (7_680,)
    # the filter's edges aside; soxr HQ is good to 20 bits, its phase is linear and compensated
    np.testing.assert_allclose(got[800:-800], tone(0.48, 16_000)[800:-800], atol=1e-4)


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3", "aiff"])
def test_formats(tmp_path: Path, extension: str) -> None:
    got = decode(write(tmp_path / f"a.{extension}", tone(1, 32_000), 32_000), 16_000)
    spectrum = np.abs(np.fft.rfft(got[4000:12000] * np.hanning(8000)))
    assert np.argmax(spectrum) == 220  # 2 Hz a bin
    assert len(got) == pytest.approx(16_000, abs=1200)  # an mp3 frame of padding at most


def test_down_mix_is_the_mean(tmp_path: Path) -> None:
    left = tone(0.1, 16_000)
    silent = decode(
        write(tmp_path / "a.wav", np.stack([left, -left], axis=1), 16_000, subtype="FLOAT"), 16_000
    )
    assert not silent.any()
    half = decode(
        write(tmp_path / "b.wav", np.stack([left, 0 * left], axis=1), 16_000, subtype="FLOAT"),
        16_000,
    )
    np.testing.assert_array_equal(half, left / 2)


def test_scale_offset_and_silence_stay(tmp_path: Path) -> None:
    loud = np.full(1000, 3.0, np.float32)  # beyond full scale, as a floating-point file may be
    np.testing.assert_array_equal(
        decode(write(tmp_path / "a.wav", loud, 8000, subtype="FLOAT"), 8000), loud
    )
    offset = decode(write(tmp_path / "b.wav", np.full(48_000, 0.25), 48_000), 16_000)
    np.testing.assert_allclose(offset[500:-500], 0.25, atol=1e-4)  # 16-bit steps are 3e-5
    assert not decode(write(tmp_path / "c.wav", np.zeros(48_000), 48_000), 16_000).any()


def test_one_sample_is_enough(tmp_path: Path) -> None:
    assert decode(write(tmp_path / "a.wav", np.ones(1) / 2, 16_000), 48_000).shape == (3,)


def test_a_file_is_resampled_as_a_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(600_000).astype(np.float32)
    path = write(tmp_path / "a.wav", noise, 44_100, subtype="FLOAT")
    at_once = decode(path, 32_000)
    np.testing.assert_array_equal(at_once, soxr.resample(noise, 44_100, 32_000, quality="HQ"))


def test_a_long_clip_goes_through_a_scratch_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.wav", tone(1, 22_050), 22_050)
    in_memory = decode(path, 16_000)
    monkeypatch.setattr(samples, "IN_MEMORY", 2500)
    mapped = decode(path, 16_000, tmp_path / "scratch")
    assert isinstance(mapped, np.memmap)
    assert Path(str(mapped.filename)).parent == tmp_path / "scratch"
    np.testing.assert_array_equal(mapped, in_memory)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"just text, not audio\n" * 100, "no decoder reads it"),
        (bytes(5000), "no decoder reads it"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "no decoder reads it"),
        (
            b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00" + bytes(3000),
            "no decoder reads it",
        ),  # a video's first bytes
    ],
)
@pytest.mark.parametrize("extension", ["wav", "mp3", "mp4"])
def test_what_is_no_audio(tmp_path: Path, content: bytes, reason: str, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=reason) as error:
        decode(path, 16_000)
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)
    assert "does not exist" not in str(error.value)


def test_missing_file_directory_no_samples_nan_and_odd_rates(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="No such file"):
        decode(tmp_path / "none.wav", 16_000)
    with pytest.raises(AudioError):
        decode(tmp_path, 16_000)
    with pytest.raises(AudioError, match="no audio samples"):
        decode(write(tmp_path / "a.wav", np.zeros(0), 16_000), 16_000)
    for bad in (np.nan, np.inf):
        with pytest.raises(AudioError, match="NaN or Inf"):
            decode(
                write(tmp_path / "b.wav", np.array([0, bad, 0]), 16_000, subtype="FLOAT"), 16_000
            )
    with pytest.raises(AudioError, match="sample rate 10 Hz"):
        decode(write(tmp_path / "c.wav", np.zeros(100), 10), 16_000)


def test_damage_anywhere_is_an_array_or_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for extension in ("wav", "flac", "ogg", "mp3"):
        whole = write(tmp_path / f"a.{extension}", tone(0.3, 16_000), 16_000).read_bytes()
        for trial in range(25):
            data = bytearray(whole)
            end = len(data) if trial % 2 else 100  # half of the damage in the header
            for place in rng.integers(0, end, 8):
                data[place] = rng.integers(256)
            path = tmp_path / f"b.{extension}"
            path.write_bytes(data)
            try:
                got = decode(path, 8000, tmp_path / "scratch")
            except AudioError:
                continue
            assert got.dtype == np.float32
            assert np.isfinite(got).all()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_real_video(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(1, 44_100), 44_100)
    subprocess.run(
        [
            "ffmpeg",
            "-loglevel",
            "error",
            "-f",
            "lavfi",
            "-i",
            "color=black:s=32x32:d=1",
            "-i",
            tmp_path / "a.wav",
            "-c:a",
            "aac",
            tmp_path / "a.mp4",
        ],
        check=True,
    )
    got = decode(tmp_path / "a.mp4", 16_000)
    assert np.argmax(np.abs(np.fft.rfft(got[4000:12000] * np.hanning(8000)))) == 220


def test_provenance_names_every_decoder() -> None:
    assert set(audio.provenance()) == {
        *("soundfile", "libsndfile", "av", "libavcodec", "soxr", "resampler"),
    }
