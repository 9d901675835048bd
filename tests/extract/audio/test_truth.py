"""All of a file or a reason: inputs as people have them, each made here."""

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from extract.audio.decoding import AudioError, decode, decode_clip
from extract.audio.truth import LOSS_SECONDS, LOSS_SHARE
from tests.support import damaged_audio
from tests.support.damaged_audio import encode, signal

RATE = 44_100


def noise_then_tone(seconds: float = 6.0) -> np.ndarray:
    """Loud noise, which a variable bitrate spends its bits on, then a quiet tone."""
    rng = np.random.default_rng(0)
    first = rng.uniform(-0.5, 0.5, RATE)
    rest = 0.1 * np.sin(2 * np.pi * 440 * np.arange(round((seconds - 1) * RATE)) / RATE)
    return np.concatenate([first, rest]).astype(np.float32)[:, None]


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    mono = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.repeat(mono[:, None], channels, axis=1).astype(np.float32)


def fuzz(files: int, seed: int) -> tuple[list[str], int]:
    """The names of files that came out neither right nor as a failure, and how many came out."""
    wrong, decoded = [], 0
    for sample in damaged_audio.damaged(files, seed):
        try:
            clip = decode_clip(sample.data, 16_000)
        except AudioError as error:
            assert "\n" not in str(error)
            continue
        decoded += 1
        truth = sample.seconds
        if truth is None:
            truth = damaged_audio.count_packets(sample.data)
        allowed = sample.slack + min(LOSS_SHARE * truth, LOSS_SECONDS)
        length = len(clip.samples) / 16_000  # the resampler rounds once for each rate
        if abs(clip.seconds - truth) > allowed or abs(length - clip.seconds) > 1e-3:
            wrong.append(f"{sample.name}: {clip.seconds:.2f} of {truth:.2f} s")
    return wrong, decoded


def test_a_few_damaged_files_of_each_kind_are_right_or_fail() -> None:
    wrong, decoded = fuzz(30, seed=1)
    assert wrong == []
    assert decoded > 8  # joined files, and headers that lie, are whole


@pytest.mark.slow
def test_five_damaged_files_of_each_kind_are_right_or_fail() -> None:
    wrong, decoded = fuzz(150, seed=0)
    assert wrong == []
    assert decoded > 36


@pytest.mark.parametrize("container", damaged_audio.CONTAINERS)
def test_what_is_accepted_is_what_is_left(container: str) -> None:
    data = encode(
        container, signal(4, 44_100 if container != "opus" else 48_000, 2, rng(0)), 48_000
    )
    cut = data[: len(data) * 2 // 3]
    with pytest.raises(AudioError):
        decode_clip(cut, 16_000)
    if container == "m4a":  # its table of samples is at the end, and lost
        return
    clip = decode_clip(cut, 16_000, on_truncated="accept")
    assert 1.5 < clip.seconds < 3.3
    assert clip.notes[0].startswith("truncated, accepted: ")
    whole = decode_clip(data, 16_000)
    assert whole.notes == ()
    assert clip.promised >= clip.seconds
    np.testing.assert_allclose(clip.samples[:14_000], whole.samples[:14_000], atol=2e-2)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_variable_bitrate_mp3_without_a_header() -> None:
    """libsndfile takes the first frames' bitrate for all (its issue 1001)."""
    filed = encode("mp3", noise_then_tone(), RATE, variable=True)
    piped = damaged_audio.mp3_no_header(filed, rng(0))
    clip = decode_clip(piped, 16_000)
    assert clip.decoder == "PyAV"
    assert clip.seconds == pytest.approx(6.0, abs=3 * 1152 / RATE)
    assert decode_clip(filed, 16_000).seconds == pytest.approx(6.0, abs=1e-3)


@pytest.mark.parametrize("container", ["ogg", "opus"])
@pytest.mark.parametrize(("rate", "channels"), [(48_000, 1), (24_000, 2)])
def test_a_chained_ogg(container: str, rate: int, channels: int) -> None:
    """As Icecast's captures are; the second stream may have another rate and other channels."""
    joined = encode(container, tone(1, 48_000), 48_000) + encode(
        container, tone(2, rate, channels), rate
    )
    clip = decode_clip(joined, 16_000)
    assert clip.seconds == pytest.approx(3, abs=0.01)
    spectrum = np.abs(np.fft.rfft(clip.samples[24_000:40_000] * np.hanning(16_000)))
    assert np.argmax(spectrum) == 440  # of the second, 1 Hz a bin


def test_an_ogg_page_without_packets_ends_none() -> None:
    data = encode("ogg", tone(2, RATE), RATE)
    apart = damaged_audio.ogg_headers_apart(data)
    np.testing.assert_array_equal(decode(apart, RATE), decode(data, RATE))


@pytest.mark.parametrize("container", ["mp3", "flac", "wav", "m4a"])
def test_joined_files_of_two_rates(container: str) -> None:
    joined = encode(container, tone(1, 44_100), 44_100) + encode(
        container, tone(2, 32_000, 2), 32_000
    )
    clip = decode_clip(joined, 16_000)
    assert clip.seconds == pytest.approx(3, abs=4 * 2048 / 32_000 if container == "m4a" else 0.08)
    spectrum = np.abs(np.fft.rfft(clip.samples[24_000:40_000] * np.hanning(16_000)))
    assert np.argmax(spectrum) == 440


@pytest.mark.parametrize("second", ["m4a", "wav", "flac"])
@pytest.mark.parametrize("first", ["ogg", "mp3"])
def test_joined_files_of_two_kinds(first: str, second: str) -> None:
    joined = encode(first, tone(1, RATE), RATE) + encode(second, tone(2, RATE), RATE)
    assert decode_clip(joined, 16_000).seconds == pytest.approx(3, abs=4 * 2048 / RATE)


def test_an_m4a_whose_middle_is_zeros_fails_with_both_figures() -> None:
    data = bytearray(encode("m4a", tone(6, RATE), RATE))
    data[len(data) // 4 : len(data) * 3 // 4] = bytes(len(data) // 2)
    with pytest.raises(AudioError, match=r"truncated: .*decodes \d\.\d\d s of 6\.\d\d s"):
        decode(bytes(data), 16_000)


@pytest.mark.parametrize("total", [0, 1000, 88_200])
def test_flac_of_unknown_or_wrong_length(total: int) -> None:
    data = encode("flac", tone(3, RATE), RATE)
    packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | total
    clip = decode_clip(data[:18] + packed.to_bytes(8, "big") + data[26:], 16_000)
    assert clip.seconds == pytest.approx(3, abs=1e-9)
    np.testing.assert_allclose(clip.samples, decode(data, 16_000), atol=1e-6)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_wav_of_a_recorder_that_was_cut_off(size: int) -> None:
    data = encode("wav", tone(2, RATE), RATE)
    place = data.find(b"data") + 4
    lying = data[:place] + struct.pack("<I", size) + data[place + 4 :]
    clip = decode_clip(lying, 16_000)
    assert clip.seconds == pytest.approx(2, abs=1e-9)
    assert "all that follow were taken" in clip.notes[0]
    np.testing.assert_array_equal(clip.samples, decode(data, 16_000))


@pytest.mark.parametrize(
    ("form", "name"), [("RF64", "a.wav"), ("W64", "a.w64"), ("AIFF", "a.aiff")]
)
def test_long_forms_of_wav(form: str, name: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, tone(2, RATE), RATE, format=form, subtype="PCM_16")
    assert decode_clip(file.getvalue(), 16_000).seconds == pytest.approx(2, abs=1e-9)
    with pytest.raises(AudioError, match=r"promises 2\.00 s, it holds 1\.\d\d s"):
        decode(file.getvalue()[:100_000], 16_000)


def id3(size: int) -> bytes:
    body = rng(0).bytes(size).replace(b"\xff", b"x")
    return b"ID3\x04\x00\x00" + bytes(size >> 7 * i & 127 for i in (3, 2, 1, 0)) + body


def test_tags_before_between_and_after_frames_are_no_audio() -> None:
    data = encode("mp3", tone(3, RATE), RATE)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 132, 1, 0xA0000000) + bytes(8)
    body = rng(1).bytes(100)
    ape += body + b"APETAGEX" + struct.pack("<IIII", 2000, 132, 1, 0x80000000) + bytes(8)
    tagged = id3(50_000) + data + id3(20_000) + data + ape + b"TAG" + bytes(125)
    clip = decode_clip(tagged, 16_000)
    assert clip.seconds == pytest.approx(6, abs=0.06)
    assert clip.notes == ()
    assert decode_clip(damaged_audio.mp3_tag_in_the_middle(data, rng(0)), 16_000).seconds == (
        pytest.approx(3, abs=0.08)
    )


def test_a_tag_whose_size_leads_into_the_audio_hides_none() -> None:
    data = encode("mp3", tone(3, RATE), RATE)
    lying = bytearray(id3(1000) + data)
    lying[6:10] = bytes(20_000 >> 7 * i & 127 for i in (3, 2, 1, 0))
    assert decode_clip(bytes(lying), 16_000).seconds == pytest.approx(3, abs=0.06)


def test_a_small_loss_is_let_pass_and_a_larger_one_fails() -> None:
    data = encode("mp3", tone(20, RATE), RATE)
    second = len(data) // 20
    middle = len(data) // 2
    small = data[:middle] + bytes(second // 10) + data[middle:]
    assert decode_clip(small, 16_000).seconds == pytest.approx(20, abs=0.15)
    headless = damaged_audio.mp3_no_header(data, rng(0))
    with pytest.raises(AudioError, match="neither audio nor tags"):
        decode(headless[:middle] + bytes(second) + headless[middle + second :], 16_000)


@pytest.mark.parametrize("container", ["aac", "ts", "mkv", "ac3"])
def test_kinds_that_are_known_by_their_packets_only(container: str) -> None:
    data = encode(container, signal(6, 48_000, 1, rng(3)), 48_000)
    assert decode_clip(data, 16_000).seconds == pytest.approx(6, abs=3 * 1536 / 48_000)
    third = len(data) // 3
    for damaged in (
        data[:third] + bytes(third) + data[2 * third :],
        data[:third] + rng(0).bytes(third) + data[2 * third :],
    ):
        with pytest.raises(AudioError):
            decode(damaged, 16_000)
    if container in ("aac", "ac3"):
        assert decode_clip(data + data, 16_000).seconds == pytest.approx(12, abs=0.2)
    if container == "mkv":
        with pytest.raises(AudioError, match="truncated"):
            decode(data + data, 16_000)


@pytest.mark.parametrize("container", ["mkv", "flv"])
def test_a_long_file_whose_packets_last_whole_milliseconds(container: str) -> None:
    """21 ms of 21.33 each: their sum is short of a whole file by more than a loss may be."""
    data = encode(container, signal(30, 48_000, 1, rng(3)), 48_000)
    assert decode_clip(data, 16_000).seconds == pytest.approx(30, abs=3 * 1024 / 48_000)


def test_packets_of_no_stated_duration() -> None:
    data = encode("mkv of alac", tone(6, RATE), RATE)
    assert decode_clip(data, 16_000).seconds == pytest.approx(6, abs=1e-3)
    hole = data[: len(data) // 2] + bytes(len(data) // 4) + data[len(data) * 3 // 4 :]
    for damaged in (data[: len(data) // 2], hole):
        with pytest.raises(AudioError, match=r"truncated: .*decodes \d\.\d\d s of 6\.00 s"):
            decode(damaged, 16_000)


def test_opus_as_ffmpeg_writes_it(tmp_path: Path) -> None:
    """libsndfile's first read began with the encoder's delay, and lost as much at its end."""
    samples = signal(8, 48_000, 1, rng(3))
    path = tmp_path / "a.opus"
    with av.open(str(path), "w", format="opus") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "flt", "mono")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with av.open(str(path)) as container:
        pieces = [piece.to_ndarray()[0] for piece in container.decode(audio=0)]
    expected = np.concatenate(pieces)[: 8 * 48_000]
    np.testing.assert_allclose(decode(path, 48_000), expected, atol=1e-5)


# --- parts


@pytest.mark.parametrize("container", damaged_audio.CONTAINERS)
@pytest.mark.parametrize(("start", "duration"), [(0.0, 1.25), (2.5, 1.0), (3.0, None)])
def test_a_part_has_the_samples_of_the_whole(
    tmp_path: Path, container: str, start: float, duration: float | None
) -> None:
    path = tmp_path / f"a.{container}"
    path.write_bytes(encode(container, signal(5, 48_000, 2, rng(2)), 48_000))
    whole = decode(path, 48_000)
    part = decode_clip(path, 48_000, start=start, duration=duration)
    end = len(whole) if duration is None else round((start + duration) * 48_000)
    expected = whole[round(start * 48_000) : end]
    assert len(part.samples) == len(expected)
    # Opus decodes on from a state that a seek does not restore to the bit; it is not sought in
    np.testing.assert_allclose(part.samples, expected, atol=1e-6)
    assert part.seconds == pytest.approx(len(expected) / 48_000)


def test_a_part_beyond_its_file() -> None:
    data = encode("wav", tone(3, 16_000), 16_000)
    for start, duration in ((3.5, None), (3.5, 1.0), (2.0, 2.0)):
        with pytest.raises(AudioError, match=r"the clip is .* its file holds 3\.00 s"):
            decode(data, 16_000, start=start, duration=duration)
    assert len(decode(data, 16_000, start=2.5, duration=0.503)) == 8000
    clip = decode_clip(data, 16_000, start=2.0, duration=2.0, on_truncated="accept")
    assert (clip.seconds, clip.promised) == (1.0, 2.0)
    assert "truncated, accepted" in clip.notes[0]


@pytest.mark.parametrize("form", ["CAF", "NIST", "VOC", "asf", "avi", "flv"])
def test_a_cut_file_holds_less_than_its_header_states(form: str) -> None:
    file = io.BytesIO()
    if form.isupper():
        soundfile.write(file, tone(3, 16_000), 16_000, format=form, subtype="PCM_16")
    else:
        file.write(encode(form, tone(3, 16_000), 16_000))
    data = file.getvalue()
    assert len(decode(data, 16_000)) == pytest.approx(48_000, abs=2500)
    half = data[: len(data) // 2]
    with pytest.raises(AudioError, match=r"truncated: .* 1\.\d\d s of 3\.\d\d s"):
        decode(half, 16_000)
    clip = decode_clip(half, 16_000, on_truncated="accept")
    assert 1 < clip.seconds < 2 and round(clip.promised) == 3 and "accepted" in clip.notes[0]


def test_a_part_beyond_a_file_that_nobody_counts() -> None:
    file = io.BytesIO()
    soundfile.write(file, tone(3, 16_000), 16_000, format="IRCAM", subtype="PCM_16")
    with pytest.raises(AudioError, match=r"truncated: 1\.00 s of the 2\.00 s that it should have"):
        decode(file.getvalue(), 16_000, start=2.0, duration=2.0)
    clip = decode_clip(file.getvalue(), 16_000, start=2.0, duration=2.0, on_truncated="accept")
    assert (clip.seconds, clip.notes[0][:19]) == (1.0, "truncated, accepted")


# --- notes and hashes


def write(samples: np.ndarray, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype=subtype)
    return file.getvalue()


def test_what_is_odd_gets_a_note() -> None:
    mono = tone(1, 16_000)
    notes = {
        "beyond": decode_clip(write(mono * 100_000, "FLOAT"), 16_000).notes,
        "silence": decode_clip(write(0 * mono), 16_000).notes,
        "cancel": decode_clip(write(np.hstack([mono, -mono])), 16_000).notes,
        "one side": decode_clip(write(np.hstack([mono, 0 * mono])), 16_000).notes,
        "loud": decode_clip(write(3 * mono), 16_000).notes,
    }
    assert [len(found) for found in notes.values()] == [1, 1, 1, 0, 0]
    assert "samples reach 30000, beyond 1" in notes["beyond"][0]
    assert notes["silence"] == ("silence",)
    assert "channels cancel" in notes["cancel"][0]


def test_the_same_samples_have_the_same_hash_in_any_container_at_any_rate() -> None:
    samples = (32_767 * tone(1, 16_000)).astype(np.int16)
    wav, flac = encode("wav", samples, 16_000), encode("flac", samples, 16_000)
    other = encode("wav", samples[::-1], 16_000)
    digests = {decode_clip(data, rate).digest for data in (wav, flac) for rate in (16_000, 22_050)}
    assert len(digests) == 1
    assert decode_clip(other, 16_000).digest not in digests
    assert decode_clip(wav, 16_000, start=0.5).digest not in digests


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encode("wav", tone(1, 16_000), 16_000))
    for name, text in (
        ("a.m3u8", f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/a.wav\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", f"ffconcat version 1.0\nfile {tmp_path}/a.wav\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError):
            decode(tmp_path / name, 16_000)
