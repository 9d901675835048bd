"""How many probes fit on a device: how much memory it may use, and an estimate of how much they
take, in bytes.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from extract.errors import InputError
from fsprobe.batch.spec import Wanted
from fsprobe.config import SolverConfig
from fsprobe.heads.cross_validation import FOLDS
from fsprobe.heads.data import Data

_FLOAT = 4
# weights, two moments and best weights; the old and the new ones as a block of epochs ends
_STATE = 2 * 4
# the same four and a gradient, of a probe under way; the weights of epochs to validate come besides
_ACTIVE = 5
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
        train, valid, test = (part.features.shape[0] for part in data[:3])
        return cls(train, valid, test, data.train.features.shape[1], data.train.positive.shape[1])

    @property
    def data_bytes(self) -> int:
        """Of features and labels, which every device holds."""
        return (self.train + self.valid + self.test) * (_FLOAT * self.dim + self.n_tags)


class Footprint(NamedTuple):
    """Bytes that a probe (or a seed with all its probes) takes. kept: as long as its chunk trains.
    busy: more of them, while it is in one of the lanes.
    """

    kept: int
    busy: int


def device_bytes(gigabytes: float) -> int:
    """Bytes that a device may use. 0 gigabytes: half of what an accelerator offers, whose libraries
    take scratch memory besides; on a CPU half of the free memory, divided among its devices.
    """
    if gigabytes:
        return int(gigabytes * 1e9)
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return _host_memory() // 2 // jax.local_device_count()
    return int((device.memory_stats() or {}).get("bytes_limit", 16e9)) // 2


def adam(
    sizes: Sizes, n_tags: int, n_clips: int, config: SolverConfig, validate_every: int
) -> Footprint:
    """What a probe of fsprobe.heads.solvers.adam needs."""
    hidden, models = config.hidden, FOLDS + 1 if config.validation == "support" else 1
    outputs = (
        (sizes.dim + 1) * hidden + (hidden + 1) * n_tags if hidden else (sizes.dim + 1) * n_tags
    )
    weights = models * outputs
    wide = n_tags + hidden
    # and transposed
    batch = 2 * models * min(config.batch_size, n_clips) * sizes.dim
    scored = sizes.valid if models == 1 else models * n_clips
    training = (
        (_ACTIVE + validate_every) * weights
        + n_clips * (2 * models * n_tags + 4)
        + batch
        + _LOSSES * scored * wide
        + (models > 1) * n_clips * sizes.dim
    )
    scored = sizes.test + n_clips
    testing = weights + scored * (_SCORING * n_tags + hidden) + n_clips * sizes.dim
    return Footprint(
        _FLOAT * (_STATE * weights + n_clips + n_tags), _FLOAT * max(training, testing)
    )


def by_seed(
    sizes: Sizes,
    width: int,
    widths: Mapping[int, int],
    strengths: int,
    wanted: Wanted,
    head: int,
    cells: int,
) -> Footprint:
    """What a seed of fsprobe.batch.by_seed needs: products of `width` clips, 0 where none are
    needed, one cell at a time, and the heads of all cells of a size. widths: tags by clips. head:
    numbers in the head of a cell. cells: of one size, at most.
    """

    def cell(n_clips: int, n_tags: int) -> int:
        dual = n_clips <= sizes.dim
        size = n_clips if dual else sizes.dim
        matrices = _MATRICES * n_clips * size if dual else _MATRICES * size**2
        gathered = sizes.valid * n_clips * (dual and width > 0) + 2 * n_clips * sizes.dim
        fits = (_PAIRS + strengths) * size * n_tags + _SEARCHING * n_clips * n_tags
        losses = strengths * _LOSSES * max(sizes.valid, n_clips)
        heads = 3 * head + (0 if width else 2 * strengths) * n_tags * sizes.dim
        scores = n_tags * (losses + _SCORING * (sizes.test + n_clips))
        scaled = 0 if width else 2 * sizes.test * sizes.dim  # test clips of length 1, transposed
        return matrices + gathered + fits + heads + scores + scaled

    clips = width * sizes.dim  # gathered, to be multiplied
    # heads side by side, and one by one; and what is handed back of them
    kept = width * (width + sizes.valid) + (3 if wanted.heads else 2) * cells * head
    return Footprint(_FLOAT * kept, _FLOAT * max(clips, *(cell(*item) for item in widths.items())))


def by_support(sizes: Sizes, clips: int, n_tags: int, strengths: int) -> Footprint:
    """What the fits of one support set need in fsprobe.batch.by_support, n_tags of its tags on a
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
        + 2 * strengths * (sizes.dim * n_tags)
    )
    losses = strengths * n_tags * _LOSSES * sizes.valid
    return Footprint(0, _FLOAT * (matrices + fits + losses + _SCORING * sizes.test * n_tags))


def pack(
    footprint: Footprint, what: str, sizes: Sizes, device_bytes: int, lanes: int, most: int
) -> tuple[int, int]:
    """How many lanes and how many probes a device takes: those given, halved until they fit.

    Raises InputError if not even one fits; `what` is its name in the message.
    """
    free = device_bytes - sizes.data_bytes
    while lanes > 1 and lanes * (footprint.kept + footprint.busy) > free:
        lanes //= 2
    if footprint.kept + footprint.busy > free:
        needed, features, has = (
            f"{count / 1e6:,.1f} MB" for count in (sum(footprint), sizes.data_bytes, device_bytes)
        )
        raise InputError(
            f"`device_memory_gb`: {what} needs {needed} beside {features} of features, and a "
            f"device has "
            f"{has}; give it more, or drop the largest `n_way`, `k_shot` or `embedding`"
        )
    fitting = (free - lanes * footprint.busy) // max(footprint.kept, 1)
    count = lanes
    while 2 * count <= min(most, fitting):
        count *= 2
    return lanes, count


def _host_memory() -> int:
    """Bytes that programs can still allocate."""
    try:
        return 1024 * int(
            re.findall(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())[0]
        )
    except (OSError, IndexError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
