"""Features and labels of a manifest's clips, from the stores that `extract` wrote.

Rows are found by clip_id, read once from the memmaps, and only those asked for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest, read_manifest
from extract.store import DONE, Store, open_store
from fsprobe.config import COMBINED

_BLOCK = 512  # clips read at a time


def open_stores(stores: Mapping[str, str | Path | Store]) -> dict[str, Store]:
    """Open every store, keeping names and order. Raises InputError on a reserved name or an
    unreadable store.
    """
    if COMBINED in stores:
        raise InputError(
            f"`store`: the name {COMBINED!r} is taken by the concatenation of all stores; rename it"
        )
    return {
        name: store if isinstance(store, Store) else open_store(store)
        for name, store in stores.items()
    }


def load_features(
    stores: Mapping[str, str | Path | Store],
    manifest: Manifest | str | Path,
    embedding: str,
    framenorm: bool = False,
) -> np.ndarray:
    """Features of one embedding → float32 `[clip, dim]`, row i for clip i of the manifest (or its
    file).

    A store's name gives its raw statistics (`features.npy`), or with framenorm the
    frame-standardised ones (`features_framenorm.npy`); `A+B` has the latter of stores A and B side
    by side, and `combined` of all stores in the order given. Clips with an empty split are not
    read: their rows are NaN.

    Raises InputError on an unknown embedding, a clip absent from a store, or a NaN or Inf (naming
    the first clip).
    """
    manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    parts = arrays_of(open_stores(stores), embedding, framenorm)
    require_clips({name: store for name, store, _ in parts}, manifest)
    used = np.flatnonzero([bool(split) for split in manifest.splits])
    clip_ids = [manifest.clip_ids[row] for row in used]
    widths = [getattr(store, array).shape[1] for _, store, array in parts]
    features = _aligned((len(manifest), sum(widths)))
    features[np.flatnonzero([not split for split in manifest.splits])] = np.nan
    columns = np.split(features, np.cumsum(widths)[:-1], axis=1)  # views
    for (name, store, array), mine in zip(parts, columns, strict=True):
        index = {clip: row for row, clip in enumerate(store.clip_ids)}
        rows = np.array([index[clip] for clip in clip_ids], np.int64)
        for i in range(0, len(rows), _BLOCK):
            block = store.rows(array, rows[i : i + _BLOCK])
            _check_finite(block, clip_ids[i : i + _BLOCK], f"store {name!r} ({store.path})")
            mine[used[i : i + _BLOCK]] = block
    return features


def width(stores: Mapping[str, Store], embedding: str) -> int:
    """Dimensions of load_features. Raises InputError on an unknown embedding."""
    return sum(getattr(store, array).shape[1] for _, store, array in arrays_of(stores, embedding))


def is_single(embedding: str) -> bool:
    """Is it one store's, not several side by side?"""
    return embedding != COMBINED and "+" not in embedding


def stores_of(names: Sequence[str], embedding: str) -> list[str]:
    """The stores whose columns side by side are the embedding: one, A and B for `A+B`, all for
    `combined`. Raises InputError on a store that is not in `names`, or twice in `A+B`.
    """
    if embedding == COMBINED:
        return list(names)
    parts = embedding.split("+")
    for part in parts:
        if part not in names:
            known = ", ".join([*names, COMBINED])
            raise InputError(f"`embedding={embedding}`: unknown; there are {known}, and A+B")
    if len(set(parts)) < len(parts):
        raise InputError(f"`embedding={embedding}`: a store stands in it twice")
    return parts


def arrays_of(
    stores: Mapping[str, Store], embedding: str, framenorm: bool = False
) -> list[tuple[str, Store, str]]:
    """(name, store, array) whose columns side by side are the embedding. Raises InputError on an
    unknown name.
    """
    names = stores_of(list(stores), embedding)
    raw = is_single(embedding) and not framenorm
    array = "features" if raw else "features_framenorm"
    return [(name, stores[name], array) for name in names]


class Standardized(NamedTuple):
    """features: float32 `[clip, dim]`, standardised: (x − mean) / deviation, 0 where the deviation
    is 0. mean, deviation: float32 `[dim]`.
    """

    features: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def centred(self, rows: slice) -> "Standardized":
        """The same with the mean of the given rows subtracted as well, in place."""
        shift = self.features[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
        np.subtract(self.features, shift, out=self.features)
        scale = np.where(self.deviation > 0, self.deviation, 1)
        return self._replace(mean=self.mean + shift * scale)

    def followed_by(self, features: np.ndarray) -> "Standardized":
        """With further clips, of raw features `[clip, dim]`, standardised alike."""
        scale = np.where(self.deviation > 0, self.deviation, np.inf)
        more = ((features - self.mean) / scale).astype(np.float32)
        return self._replace(features=np.concatenate([self.features, more]))


def load_standardized(
    stores: Mapping[str, Store],
    manifest: Manifest,
    clips: Manifest,
    embedding: str,
    standardize: str,
) -> Standardized:
    """load_features of `clips`, standardised: `none`, `frame` (the frame-standardised statistics)
    or `train`.

    `train`: each dimension by its mean and standard deviation over all training clips of the
    manifest, in a probe's support set or not. A dimension that is constant over them becomes 0, in
    every clip. The training clips are read twice for it.
    """
    features = load_features(stores, clips, embedding, standardize == "frame")
    dim = features.shape[1]
    if standardize != "train":
        return Standardized(features, np.zeros(dim, np.float32), np.ones(dim, np.float32))
    mean, deviation = _moments(stores, manifest, embedding)
    features -= mean
    features /= np.where(deviation > 0, deviation, np.inf)
    return Standardized(features, mean, deviation)


def _moments(
    stores: Mapping[str, Store], manifest: Manifest, embedding: str
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard deviation) `[dim]` over the training clips, in float64 until the end."""
    rows = [row for row, split in enumerate(manifest.splits) if split == "train"]
    total, squares = np.zeros((2, width(stores, embedding)))
    for i in range(0, len(rows), _BLOCK):
        block = load_features(stores, manifest.take(rows[i : i + _BLOCK]), embedding)
        block = block.astype(np.float64)
        total += block.sum(axis=0)
        squares += (block**2).sum(axis=0)
    mean = total / len(rows)
    variance = squares / len(rows) - mean**2
    constant = variance <= 1e-12 * mean**2  # what rounding leaves of nothing
    return mean.astype(np.float32), np.sqrt(np.where(constant, 0, variance)).astype(np.float32)


def missing_clips(stores: Mapping[str, Store], manifest: Manifest) -> dict[str, str]:
    """The clips with a split that some store lacks (or has no finished row of) → the name of that
    store.
    """
    wanted = [clip for clip, split in zip(manifest.clip_ids, manifest.splits, strict=True) if split]
    absent: dict[str, str] = {}
    for name, store in stores.items():
        done = {store.clip_ids[row] for row in np.flatnonzero(store.status == DONE)}
        for clip in wanted:
            if clip not in done:
                absent.setdefault(clip, name)
    return absent


def require_clips(stores: Mapping[str, Store], manifest: Manifest) -> None:
    """Raise InputError unless every store has a finished row of every clip with a split."""
    if absent := missing_clips(stores, manifest):
        clip, name = next(iter(absent.items()))
        why = "has no finished row in it" if clip in stores[name].clip_ids else "is not in it"
        raise InputError(
            f"store {name!r} ({stores[name].path}): clip {clip!r} {why} ({len(absent)} such clips "
            f"of {len(manifest)}); extract them, empty their split, or pass `missing=drop`"
        )


def _aligned(shape: tuple[int, int]) -> np.ndarray:
    """An empty float32 array where JAX can use it in place: on the CPU it copies what is not
    aligned to 64 bytes.
    """
    size = 4 * shape[0] * shape[1]
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(np.float32).reshape(shape)


def _check_finite(block: np.ndarray, clip_ids: Sequence[str], where: str) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if bad.size:
        raise InputError(
            f"{where}: NaN or Inf in the features of clip {clip_ids[bad[0]]!r}; extract or import "
            f"it "
            "anew, or empty its split"
        )
