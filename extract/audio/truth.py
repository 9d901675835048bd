"""Was all of a file decoded? What it holds, by count, against what a decoder made of it."""

from dataclasses import dataclass

from extract.audio.containers import Stream
from extract.audio.readers import AudioError, Packets, Tally

_HEADER = 4096  # bytes that a file may have beside its packets
LOSS_SHARE, LOSS_SECONDS = 0.01, 0.25  # a greater loss than either of them is a failure


@dataclass(frozen=True)
class Part:
    """Of a file, in seconds. duration: None up to its end."""

    start: float = 0.0
    duration: float | None = None

    @property
    def end(self) -> float:
        return float("inf") if self.duration is None else self.start + self.duration


@dataclass(frozen=True)
class Held:
    """What a file holds. seconds: None if nobody could count them. slack: seconds by which a
    decoder may differ. promised: seconds, the most that is stated or counted. fault: why it is
    truncated, or empty. counted: how, in words.
    """

    seconds: float | None
    slack: float = 0.0
    promised: float = 0.0
    fault: str = ""
    counted: str = ""


def held(streams: tuple[Stream, ...]) -> Held:
    """The sum of the streams."""
    seconds = sum(stream.seconds for stream in streams)
    return Held(
        seconds,
        sum(stream.slack for stream in streams),
        sum(max(stream.seconds, stream.promised or 0.0) for stream in streams),
        next(filter(None, map(_fault, streams)), ""),
        ", ".join(dict.fromkeys(stream.counted for stream in streams[:3])),
    )


def held_by_packets(packets: Packets, size: int) -> Held:
    """Of a file of `size` bytes whose streams were not counted, only its packets."""
    fault = ""
    if packets.seconds and packets.span > packets.seconds + 0.1 + allowed_loss(packets.span):
        fault = f"its packets hold {packets.seconds:.2f} s of {packets.span:.2f} s"
    lost = packets.unused * packets.seconds / size
    if packets.unused > _HEADER and lost > allowed_loss(packets.seconds):
        fault = f"{lost:.2f} s are not audio, its packets hold {packets.seconds:.2f} s"
    stated = packets.stated
    if stated and packets.seconds > stated + 0.25 + allowed_loss(stated):
        fault = f"its header states {stated:.2f} s, its packets hold {packets.seconds:.2f} s"
    return Held(stated, 0.25, stated or 0.0, fault, "packets counted by FFmpeg")


def _fault(stream: Stream) -> str:
    holds = f"it holds {stream.seconds:.2f} s ({stream.counted})"
    if stream.promised is not None and stream.promised > stream.seconds + stream.slack:
        return f"its header promises {stream.promised:.2f} s, {holds}"
    if stream.cut:
        return f"{stream.cut}; {holds}"
    if stream.lost > allowed_loss(stream.seconds + stream.lost):
        return f"{stream.lost:.2f} s are neither audio nor tags, {holds}"
    return ""


def allowed_loss(seconds: float) -> float:
    return min(LOSS_SHARE * seconds, LOSS_SECONDS)


def check_part(part: Part, total: Held, accept: bool) -> None:
    """Raise AudioError if the part lies beyond the file, or, unless accepted, ends beyond it."""
    if total.seconds is None:
        return
    end = total.seconds + total.slack
    must_end = part.duration is not None and not accept
    if part.start >= end or (must_end and part.end > end + allowed_loss(part.duration or 0.0)):
        raise AudioError(
            f"the clip is {part.start:.2f} to {part.end:.2f} s, "
            f"its file holds {total.seconds:.2f} s"
        )


def disagreement(decoded: float, stopped: bool, tally: Tally, total: Held) -> str:
    """What is wrong with `decoded` seconds of the file, or an empty string. stopped: on purpose,
    at the end of the part that was wanted.
    """
    expected = tally.announced if total.seconds is None else total.seconds
    if tally.errors > LOSS_SHARE * tally.packets:
        of = "" if expected is None else f" of {expected:.2f} s"
        return (
            f"decodes {decoded:.2f} s{of} and fails at {tally.errors} of {tally.packets} packets "
            f"({tally.message})"
        )
    if stopped or expected is None:
        return ""
    least = expected - total.slack - allowed_loss(expected)
    if least <= decoded <= expected + total.slack:
        return ""
    return f"decodes {decoded:.2f} s of {expected:.2f} s"
