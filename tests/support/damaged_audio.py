"""Audio files of every container, whole or damaged in a known way: for tests of decoding.

Made with soundfile and PyAV, so that no ffmpeg is needed. A file's true length is known from how it
was made, never from the code under test.
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np
import soundfile

CONTAINERS = ("mp3", "ogg", "opus", "flac", "wav", "m4a")
FRAME = {"mp3": 1728, "ogg": 1024, "opus": 960, "flac": 4096, "wav": 0, "m4a": 1024}  # samples
_BY_PYAV = {
    "m4a": ("ipod", "aac"),
    "aac": ("adts", "aac"),
    "ts": ("mpegts", "aac"),
    "mkv": ("matroska", "aac"),
    "ac3": ("ac3", "ac3"),
    "avi": ("avi", "mp2"),
    "flv": ("flv", "aac"),
    "asf": ("asf", "pcm_s16le"),
    "mkv of alac": ("matroska", "alac"),
}
DAMAGES = ("cut", "hole", "garbage", "joined", "header lies")


@dataclass(frozen=True)
class Sample:
    """A file. seconds: that a decoder should give; None where only a count of its packets tells
    (`count_packets`). slack: a frame or two of the codec, for each file in it.
    """

    name: str
    data: bytes
    seconds: float | None
    slack: float


def signal(seconds: float, rate: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Tones that change every quarter of a second, and some noise: `[sample, channel]`."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 200 * 2 ** rng.uniform(0, 3, len(time) // (rate // 4) + 1)
    phase = 2 * np.pi * np.cumsum(np.repeat(pitch, rate // 4)[: len(time)]) / rate
    mono = 0.3 * np.sin(phase) + 0.05 * rng.standard_normal(len(time))
    return np.repeat(mono[:, None], channels, axis=1).astype(np.float32)


def encode(container: str, samples: np.ndarray, rate: int, variable: bool = False) -> bytes:
    """The samples `[sample, channel]` as a file."""
    if container in _BY_PYAV:
        return _encode_av(*_BY_PYAV[container], samples, rate)
    form, subtype = {
        "mp3": ("MP3", "MPEG_LAYER_III"),
        "ogg": ("OGG", "VORBIS"),
        "opus": ("OGG", "OPUS"),
        "flac": ("FLAC", "PCM_16"),
        "wav": ("WAV", "PCM_16"),
    }[container]
    file = io.BytesIO()
    options = {"bitrate_mode": "VARIABLE"} if variable and container == "mp3" else {}
    soundfile.write(file, samples, rate, format=form, subtype=subtype, **options)
    return file.getvalue()


def _encode_av(form: str, codec: str, samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def count_packets(data: bytes) -> float:
    """Seconds of the packets that FFmpeg's demuxer finds, none of them decoded."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        total = 0.0
        for packet in container.demux(stream):
            total += float((packet.duration or 0) * packet.time_base)
        return total


def damaged(files: int, seed: int = 0) -> Iterator[Sample]:
    """That many files, every container with every damage in turn, the same for a seed."""
    pairs = [(container, damage) for damage in DAMAGES for container in CONTAINERS]
    for index in range(files):
        container, damage = pairs[index % len(pairs)]
        rng = np.random.default_rng([seed, index])
        yield _damage(container, damage, rng, f"{index:03} {container} {damage}")


def whole(container: str, rng: np.random.Generator) -> tuple[bytes, float, float]:
    """A sound file, its seconds, and two frames of its codec in seconds."""
    rates = [16_000, 24_000, 48_000] if container == "opus" else [16_000, 22_050, 44_100, 48_000]
    rate, channels = int(rng.choice(rates)), int(rng.integers(1, 3))
    seconds = float(rng.uniform(1.5, 7.0))
    samples = signal(seconds, rate, channels, rng)
    data = encode(container, samples, rate, bool(rng.integers(2)))
    return data, len(samples) / rate, 2 * FRAME[container] / rate + 0.002


def _damage(container: str, damage: str, rng: np.random.Generator, name: str) -> Sample:
    data, seconds, slack = whole(container, rng)
    size = len(data)
    if damage == "cut":
        cut = int(rng.uniform(0.2, 0.97) * size)
        return Sample(name, data[:cut], None, slack)
    if damage == "hole":
        start, length = _place(rng, size)
        return Sample(name, data[:start] + bytes(length) + data[start + length :], seconds, slack)
    if damage == "garbage":
        start, length = _place(rng, size)
        keep = start if rng.integers(2) else start + length  # inserted, or written over
        return Sample(name, data[:start] + rng.bytes(length) + data[keep:], seconds, slack)
    if damage == "joined":
        other, more, looser = whole(container, rng)
        return Sample(name, data + other, seconds + more, slack + looser)
    lie = LIES[container][rng.integers(len(LIES[container]))]
    return Sample(f"{name}: {lie.__name__}", lie(data, rng), seconds, slack)


def _place(rng: np.random.Generator, size: int) -> tuple[int, int]:
    start = int(rng.uniform(0.02, 0.9) * size)
    return start, min(int(rng.uniform(0.02, 0.5) * size), size - start)


# --- headers that lie


def _put(data: bytes, place: int, value: bytes) -> bytes:
    assert place >= 0
    return data[:place] + value + data[place + len(value) :]


def _vbr_header(data: bytes) -> int:
    return max(data.find(b"Xing"), data.find(b"Info"))


def mp3_too_many_frames(data: bytes, rng: np.random.Generator) -> bytes:
    return _put(data, _vbr_header(data) + 8, struct.pack(">I", int(rng.integers(2000, 90_000))))


def mp3_too_few_frames(data: bytes, rng: np.random.Generator) -> bytes:
    return _put(data, _vbr_header(data) + 8, struct.pack(">I", int(rng.integers(1, 40))))


def mp3_no_header(data: bytes, rng: np.random.Generator) -> bytes:
    """The first frame, which holds the Xing header, is taken out: as a pipe writes it."""
    second = data.find(data[:2], _vbr_header(data) + 100)
    return data[second:]


def mp3_header_blotted_out(data: bytes, rng: np.random.Generator) -> bytes:
    return _put(data, _vbr_header(data), b"Zing")


def mp3_tag_in_the_middle(data: bytes, rng: np.random.Generator) -> bytes:
    body = rng.bytes(int(rng.integers(100, 3000))).replace(b"\xff", b"x")
    size = len(body)
    tag = b"ID3\x04\x00\x00" + bytes((size >> 7 * i) & 127 for i in (3, 2, 1, 0)) + body
    frames = _mp3_frames(data)
    place = frames[len(frames) // 2]
    return data[:place] + tag + data[place:]


def _mp3_frames(data: bytes) -> list[int]:
    """Where a frame like the first begins, by FFmpeg's demuxer."""
    with av.open(io.BytesIO(data)) as container:
        return [packet.pos for packet in container.demux(audio=0) if packet.pos is not None]


def _page_crc(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
    return crc


def _crc_of_byte(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = ((crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


_CRC = [_crc_of_byte(byte) for byte in range(256)]


def _with_crc(data: bytes, place: int) -> bytes:
    """The Ogg page at `place` gets a right checksum again."""
    segments = data[place + 26]
    end = place + 27 + segments + sum(data[place + 27 : place + 27 + segments])
    page = _put(data[place:end], 22, bytes(4))
    return _put(data, place + 22, struct.pack("<I", _page_crc(page)))


def ogg_headers_apart(data: bytes) -> bytes:
    """Sound, though odd: Vorbis' headers on two pages, cut inside a packet, with a page of no
    packets between them.
    """
    first, headers, *rest = (b"OggS" + page for page in data.split(b"OggS")[1:])
    segments = headers[26]
    sizes, body = headers[27 : 27 + segments], headers[27 + segments :]
    cut = sizes.rfind(b"\xff") + 1
    going_on = _put(headers[:26], 5, b"\x01")
    pages = [
        first,
        headers[:26] + bytes([cut]) + sizes[:cut] + body[: sum(sizes[:cut])],
        _put(going_on, 6, b"\xff" * 8) + b"\0",
        going_on + bytes([segments - cut]) + sizes[cut:] + body[sum(sizes[:cut]) :],
        *rest,
    ]
    numbered = (_put(page, 18, struct.pack("<I", i)) for i, page in enumerate(pages))
    return b"".join(_with_crc(page, 0) for page in numbered)


def ogg_long_position(data: bytes, rng: np.random.Generator) -> bytes:
    last = data.rfind(b"OggS")
    (position,) = struct.unpack("<q", data[last + 6 : last + 14])
    return _with_crc(_put(data, last + 6, struct.pack("<q", 3 * position)), last)


def ogg_short_position(data: bytes, rng: np.random.Generator) -> bytes:
    last = data.rfind(b"OggS")
    (position,) = struct.unpack("<q", data[last + 6 : last + 14])
    return _with_crc(_put(data, last + 6, struct.pack("<q", position // 2)), last)


def ogg_page_missing(data: bytes, rng: np.random.Generator) -> bytes:
    pages = [place for place in range(len(data)) if data.startswith(b"OggS", place)]
    if len(pages) < 5:
        return ogg_long_position(data, rng)
    index = int(rng.integers(3, len(pages) - 1))
    return data[: pages[index]] + data[pages[index + 1] :]


def flac_total(data: bytes, rng: np.random.Generator) -> bytes:
    """Unknown, half, or three times as many samples in all."""
    packed = int.from_bytes(data[18:26], "big")
    total = packed & ((1 << 36) - 1)
    lie = int(rng.choice([0, total // 2, total * 3]))
    return _put(data, 18, (packed - total + lie).to_bytes(8, "big"))


def wav_data_size(data: bytes, rng: np.random.Generator) -> bytes:
    place = data.find(b"data") + 4
    (size,) = struct.unpack("<I", data[place : place + 4])
    lie = int(rng.choice([0, 0xFFFFFFFF, 0x7FFFFFFF, size // 2, size * 3]))
    return _put(data, place, struct.pack("<I", lie))


def wav_both_sizes(data: bytes, rng: np.random.Generator) -> bytes:
    lie = struct.pack("<I", int(rng.choice([0, 0xFFFFFFFF])))
    return _put(_put(data, 4, lie), data.find(b"data") + 4, lie)


def m4a_duration(data: bytes, rng: np.random.Generator) -> bytes:
    place = data.find(b"mdhd") + 4 + 16
    (length,) = struct.unpack(">I", data[place : place + 4])
    return _put(data, place, struct.pack(">I", int(length * rng.choice([0.5, 3]))))


def m4a_no_movie(data: bytes, rng: np.random.Generator) -> bytes:
    return _put(data, data.find(b"moov"), b"free")


def m4a_sample_times(data: bytes, rng: np.random.Generator) -> bytes:
    place = data.find(b"stts") + 4 + 12
    return _put(data, place, struct.pack(">I", int(rng.choice([512, 3000]))))


Lie = Callable[[bytes, np.random.Generator], bytes]
_OGG: tuple[Lie, ...] = (ogg_long_position, ogg_short_position, ogg_page_missing)
LIES: dict[str, tuple[Lie, ...]] = {
    "mp3": (
        mp3_too_many_frames,
        mp3_too_few_frames,
        mp3_no_header,
        mp3_header_blotted_out,
        mp3_tag_in_the_middle,
    ),
    "ogg": _OGG,
    "opus": _OGG,
    "flac": (flac_total,),
    "wav": (wav_data_size, wav_both_sizes),
    "m4a": (m4a_duration, m4a_no_movie, m4a_sample_times),
}
