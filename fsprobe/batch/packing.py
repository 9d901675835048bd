"""Packing probes that train in epochs: by size, into chunks that fit a device."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fsprobe.batch import memory
from fsprobe.batch.memory import Sizes
from fsprobe.batch.spec import ProbeSpec
from fsprobe.config import SolverConfig

CPU_EPOCHS = 10  # that a CPU trains before it validates
_LONG_EPOCH = 2048  # support clips: their epoch takes far longer than a validation
_CPU_CHUNK = 16  # probes of a chunk on a CPU device, fewer
_CPU_LABELS = 2**20  # where they have more support clips × tags: what is not finished may be lost


@dataclass(frozen=True)
class Chunk:
    """Probes that train together, padded to n_tags tags and n_clips support clips, `lanes` of them
    vmapped.

    None holds the place of a probe that is done already, so that the others are trained as if it
    trained beside them. validate_every: as in fsprobe.heads.adam.
    """

    n_tags: int
    n_clips: int
    lanes: int
    specs: tuple[ProbeSpec | None, ...]
    validate_every: int = 1

    def without(self, done: Collection[Any]) -> "Chunk":
        """The chunk with places held for probes whose key is done."""
        return replace(
            self,
            specs=tuple(None if spec is None or spec.key in done else spec for spec in self.specs),
        )


class Bucket(NamedTuple):
    """Probes of like size, and how they fit a device: `lanes` vmapped, `per_device` in a chunk of
    so many megabytes.
    """

    n_tags: int
    n_clips: int
    specs: tuple[ProbeSpec, ...]
    lanes: int
    per_device: int
    megabytes: float
    validate_every: int

    def chunks(self, num_devices: int) -> list[Chunk]:
        size = num_devices * self.per_device
        return [
            Chunk(
                self.n_tags,
                self.n_clips,
                self.lanes,
                self.specs[i : i + size],
                self.validate_every,
            )
            for i in range(0, len(self.specs), size)
        ]


def pack_probes(
    specs: Sequence[ProbeSpec],
    sizes: Sizes,
    platform: str,
    config: SolverConfig,
    device_bytes: int = 2**62,
    divisor: int = 1,
) -> list[Bucket]:
    """Pack probes by size, smallest first. A pure function of its arguments.

    device_bytes: what a device may hold. divisor: make chunks this many times smaller. Raises
    InputError if a probe does not fit.
    """
    lockstep = platform != "cpu"  # where one must be validated, all are
    buckets: dict[tuple[int, int], list[ProbeSpec]] = {}
    widest = max((len(spec.tags) for spec in specs), default=0)
    for spec in specs:
        shape = (
            min(padded_tags(len(spec.tags)), widest),
            padded_clips(len(spec.support), lockstep),
        )
        buckets.setdefault(shape, []).append(spec)
    packed = []
    for (n_tags, n_clips), bucket in sorted(buckets.items(), key=lambda item: np.prod(item[0])):
        bucket.sort(key=lambda spec: len(spec.support))
        rare = lockstep or config.hidden or n_clips > _LONG_EPOCH or config.validation != "valid"
        every = 1 if rare else CPU_EPOCHS
        footprint = memory.adam(sizes, n_tags, n_clips, config, every)
        whole = 256 if lockstep else int(np.clip(_CPU_LABELS // (n_tags * n_clips), 1, _CPU_CHUNK))
        most = max(1, whole // divisor)
        what = f"a probe of {n_tags} tags and {n_clips} clips"
        lanes, count = memory.pack(
            footprint, what, sizes, device_bytes, most if lockstep else 1, most
        )
        megabytes = (count * footprint.kept + lanes * footprint.busy) / 1e6
        packed.append(Bucket(n_tags, n_clips, tuple(bucket), lanes, count, megabytes, every))
    return packed


def padded_tags(n_tags: int) -> int:
    """A multiple of eight; above 64, of a quarter of a power of two: few shapes, little padding."""
    step = 8
    while 8 * step < n_tags:
        step *= 2
    return multiple_of(step, n_tags)


def padded_clips(count: int, lockstep: bool) -> int:
    """In lockstep a power of four: a small probe pays for the largest beside it. One by one, few
    shapes.
    """
    if not lockstep:
        return next((size for size in (128, 512) if count <= size), multiple_of(2048, count))
    power = 32
    while power < count:
        power *= 4
    return power


def multiple_of(step: int, least: int) -> int:
    """The least multiple of `step` that is not below `least`."""
    return -(-least // step) * step
