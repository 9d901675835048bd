"""How many probes fit on a device: the room there is, and an estimate of what they take, in
bytes.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from extract.errors import InputError
from fsprobe.heads.head import Data

_FLOAT = 4
_STATE = (
    2 * 4
)  # weights, two moments and best weights; the old and the new ones as a block of epochs ends
_ACTIVE = (
    5  # the same four and a gradient, of a probe under way; and the weights of epochs to validate
)
_SCORING = 12  # scores, labels, sorting keys and their copies, per test clip and tag
_MATRICES = 5  # products, their centred form, curvature, its factor, and a copy
_PAIRS = 2 * 4 * 8 + 8  # L-BFGS's memory, the old and the new, per coefficient and tag
_SEARCHING = 8  # logits, their change, slopes, per support clip and tag
_LOSSES = 4  # logits, labels and losses, per validation clip and tag


class Sizes(NamedTuple):
    """Clips of each split, dimensions of the features, tags of the pool."""

    train: int
    valid: int
    test: int
    dim: int
    n_tags: int

    @classmethod
    def of(cls, data: Data) -> "Sizes":
        return cls(
            *(part.shape[0] for part in (data.train, data.valid, data.test)),
            *data.train.shape[1:],
            *data.train_labels.shape[1:],
        )

    @property
    def data_bytes(self) -> int:
        """Of features and labels, which every device holds."""
        return (self.train + self.valid + self.test) * (_FLOAT * self.dim + self.n_tags)


class Need(NamedTuple):
    """Bytes of a probe (or of a seed with all its probes): kept while its chunk trains; and more
    while it is one of the lanes under way.
    """

    kept: int
    busy: int


def room(gigabytes: float) -> int:
    """Bytes that a device may use. 0: what an accelerator offers, or a CPU device's part of half of
    what is free.
    """
    if gigabytes:
        return int(gigabytes * 1e9)
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return _host_memory() // 2 // jax.local_device_count()
    return int((device.memory_stats() or {}).get("bytes_limit", 16e9))


def adam(
    sizes: Sizes, n_tags: int, n_clips: int, hidden: int, batch_size: int, validate_every: int
) -> Need:
    """What a probe of fsprobe.heads.adam.adam needs."""
    weights = (
        (sizes.dim + 1) * hidden + (hidden + 1) * n_tags if hidden else (sizes.dim + 1) * n_tags
    )
    wide = n_tags + hidden
    batch = 2 * min(batch_size, n_clips) * sizes.dim  # and transposed
    training = (
        (_ACTIVE + validate_every) * weights
        + n_clips * (n_tags + 4)
        + batch
        + _LOSSES * sizes.valid * wide
    )
    testing = weights + sizes.test * (_SCORING * n_tags + hidden)
    return Need(_FLOAT * (_STATE * weights + n_clips + n_tags), _FLOAT * max(training, testing))


def gram(sizes: Sizes, width: int, rooms: Mapping[int, int], strengths: int, norms: bool) -> Need:
    """What a seed of fsprobe.heads.dual needs: products of `width` clips, and one cell at a time.
    rooms: tags by clips.
    """

    def cell(room: int, n_tags: int) -> int:
        dual = room <= sizes.dim
        size = room if dual else sizes.dim
        matrices = _MATRICES * room * size if dual else 2 * room * size + _MATRICES * size**2
        products = (sizes.valid + sizes.test) * room * dual + (norms and dual) * room * sizes.dim
        fits = (_PAIRS + strengths) * size * n_tags + _SEARCHING * room * n_tags
        return (
            matrices
            + products
            + fits
            + n_tags * (strengths * _LOSSES * sizes.valid + _SCORING * sizes.test)
        )

    clips = width * sizes.dim  # gathered, to be multiplied
    return Need(
        _FLOAT * width * (width + sizes.valid + sizes.test),
        _FLOAT * max(clips, *(cell(room, n_tags) for room, n_tags in rooms.items())),
    )


def primal(sizes: Sizes, clips: int, n_tags: int, strengths: int, norms: bool) -> Need:
    """What fsprobe.heads.primal needs for the fits of one support set, n_tags of its tags on a
    device.
    """
    size = min(sizes.dim, clips)
    matrices = (
        clips * size * (clips < sizes.train or clips < sizes.dim)
        + (2 * clips * sizes.dim) * (clips < sizes.dim)
        + _MATRICES * size**2
    )
    fits = (
        (_PAIRS + strengths) * size * n_tags
        + _SEARCHING * clips * n_tags
        + (1 + norms) * strengths * (sizes.dim * n_tags)
    )
    scores = (
        strengths * n_tags * (_LOSSES * sizes.valid + sizes.test) + _SCORING * sizes.test * n_tags
    )
    return Need(0, _FLOAT * (matrices + fits + scores))


def pack(need: Need, what: str, sizes: Sizes, room: int, lanes: int, most: int) -> tuple[int, int]:
    """(lanes, probes) of a device: at most as many as given, halved until they fit.

    Raises InputError, with `what` for the name of it, if not even one fits.
    """
    free = room - sizes.data_bytes
    while lanes > 1 and lanes * (need.kept + need.busy) > free:
        lanes //= 2
    if need.kept + need.busy > free:
        needed, features, has = (
            f"{count / 1e6:,.1f} MB" for count in (sum(need), sizes.data_bytes, room)
        )
        raise InputError(
            f"--device_memory_gb: {what} needs {needed} beside {features} of features, and a "
            f"device has "
            f"{has}; give it more, or drop the largest --n_way, --k_shot or --embedding"
        )
    fitting = (free - lanes * need.busy) // max(need.kept, 1)
    count = lanes
    while 2 * count <= min(most, fitting):
        count *= 2
    return lanes, count


def _host_memory() -> int:
    """Bytes that programs could still take."""
    try:
        return 1024 * int(
            re.findall(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())[0]
        )
    except (OSError, IndexError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
