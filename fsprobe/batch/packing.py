"""Packing probes that train in epochs: by size, into chunks that fit a device."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fsprobe.batch import memory
from fsprobe.batch.padding import multiple_of, padded_sizes
from fsprobe.batch.spec import ProbeSpec, grouped
from fsprobe.config import SolverConfig

CPU_EPOCHS = 10  # that a CPU trains before it validates
# support clips are padded to multiples of it; the epoch of more takes far longer than a validation
CPU_CLIPS = 2048
_CPU_STEP = 128  # fewer are padded to a multiple of it
_PROGRAMS = 4  # padded numbers of tags
_CPU_CHUNK = 16  # probes of a chunk on a CPU device, fewer
_CPU_LABELS = 2**20  # where they have more support clips × tags: what is not finished may be lost


@dataclass(frozen=True)
class Chunk:
    """Probes that train together, padded to n_tags tags, n_clips support clips and `size` probes,
    `lanes` of them vmapped.

    None stands for a probe that is done already: the others keep their places, and so train exactly
    as they would beside it.
    """

    n_tags: int
    n_clips: int
    lanes: int
    size: int
    specs: tuple[ProbeSpec | None, ...]

    def without(self, done: Collection[Any]) -> "Chunk":
        """The chunk with None in the place of each probe whose key is done."""
        return replace(
            self,
            specs=tuple(None if spec is None or spec.key in done else spec for spec in self.specs),
        )


class Bucket(NamedTuple):
    """Probes of similar size, and how many a device takes: `lanes` at a time, vmapped, and
    `per_device` in a chunk of so many megabytes. validate_every: as in fsprobe.heads.solvers.adam.
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
            Chunk(self.n_tags, self.n_clips, self.lanes, size, self.specs[i : i + size])
            for i in range(0, len(self.specs), size)
        ]


def pack_probes(
    specs: Sequence[ProbeSpec],
    sizes: memory.Sizes,
    platform: str,
    num_devices: int,
    config: SolverConfig,
    device_bytes: int = 2**62,
    divisor: int = 1,
) -> list[Bucket]:
    """Pack probes by size, smallest first. A pure function of its arguments.

    All chunks have as many places, so that they share the program that tests them. On an
    accelerator the bucket of most probes decides how many: places without a probe cost as much as
    others, so there are no more than the next power of two of its probes on a device.

    device_bytes: what a device may hold. divisor: make chunks this many times smaller. Raises
    InputError if a probe does not fit.
    """
    lockstep = platform != "cpu"  # where one must be validated, all are
    n_tags_of = _tag_sizes(specs)
    buckets = grouped(
        specs,
        lambda spec: (n_tags_of[len(spec.tags)], _padded_clips(len(spec.support), lockstep)),
    )
    longest = max((len(bucket) for bucket in buckets.values()), default=1)
    packed = []
    for (n_tags, n_clips), bucket in sorted(buckets.items(), key=lambda item: np.prod(item[0])):
        bucket.sort(key=lambda spec: len(spec.support))
        rare = lockstep or config.hidden or n_clips > CPU_CLIPS or config.validation != "valid"
        every = 1 if rare else CPU_EPOCHS
        if lockstep:
            whole = min(256, 1 << (-(-longest // num_devices) - 1).bit_length())
        else:
            whole = int(np.clip(_CPU_LABELS // (n_tags * n_clips), 1, _CPU_CHUNK))
            n_clips = min(n_clips, multiple_of(_CPU_STEP, len(bucket[-1].support)))
        most = max(1, whole // divisor)
        footprint = memory.adam(sizes, n_tags, n_clips, config, every)
        what = f"a probe of {n_tags} tags and {n_clips} clips"
        lanes, count = memory.pack(
            footprint, what, sizes, device_bytes, most if lockstep else 1, most
        )
        megabytes = (count * footprint.kept + lanes * footprint.busy) / 1e6
        packed.append(Bucket(n_tags, n_clips, tuple(bucket), lanes, count, megabytes, every))
    lanes = min((bucket.lanes for bucket in packed), default=1)
    per_device = min([-(-longest // num_devices), *(bucket.per_device for bucket in packed)])
    per_device = multiple_of(lanes, per_device)
    return [bucket._replace(lanes=lanes, per_device=per_device) for bucket in packed]


def _tag_sizes(specs: Sequence[ProbeSpec]) -> dict[int, int]:
    """Number of tags → the number it is padded to. There are few such numbers, because each needs a
    program. A tag costs as much as it has clips.
    """
    by_size = grouped(specs, lambda spec: len(spec.tags))
    clips = {size: sum(len(spec.support) for spec in mine) for size, mine in by_size.items()}
    return padded_sizes(clips, _PROGRAMS, 8)


def _padded_clips(count: int, lockstep: bool) -> int:
    """In lockstep a power of four, because a small probe costs as much as the largest beside it.
    One by one the choice makes nearly no difference.
    """
    if not lockstep:
        return multiple_of(CPU_CLIPS, count)
    power = 32
    while power < count:
        power *= 4
    return power
