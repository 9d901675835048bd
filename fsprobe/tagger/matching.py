"""Which store a tagger may score: one whose numbers mean what those it was trained on meant."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from extract.errors import InputError
from extract.store import Store
from fsprobe.features import COMBINED, arrays_of
from fsprobe.tagger.tagger import Source, Tagger

_SETTINGS = ("sample_rate", "window", "hop")
# What is recorded only where it is not the default.
_DEFAULTS = {"precision": "float32"}
# What may differ without the numbers meaning something else: where it ran, and what of which
# version; the file that an array was imported from.
_CIRCUMSTANCES = frozenset(
    (
        "batch_size",
        "decoding",
        "file",
        "fsprobe",
        "jax",
        "key",
        "licence",
        "license",
        "package",
        "platform",
        "sha256",
        "torch",
        "version",
        "weights",
    )
)


class Part(NamedTuple):
    """A store and its array that give some columns of the features, side by side."""

    name: str
    store: Store
    array: str

    @property
    def width(self) -> int:
        return int(getattr(self.store, self.array).shape[1])

    def rows(self, rows: np.ndarray | slice) -> np.ndarray:
        """float32 `[row, width]`; of a slice a view, where the store is one file."""
        if isinstance(rows, slice):
            return np.asarray(getattr(self.store, self.array)[rows])
        return self.store.rows(self.array, rows)


def usual_embedding(stores: Collection[str]) -> str:
    """What is taken where nobody says: the store there is, of several `combined`."""
    return next(iter(stores)) if len(stores) == 1 else COMBINED


def parts_of(stores: Mapping[str, Store], embedding: str) -> list[Part]:
    """The parts of an embedding: a store's name, `A+B`, or `combined` (all stores, in order).

    Raises InputError on an unknown name.
    """
    return [Part(*found) for found in arrays_of(stores, embedding)]


def source_of(part: Part) -> Source:
    """What a tagger records of a store."""
    meta = part.store.meta
    return Source(
        name=part.name,
        embedding=str(meta["embedding"]),
        array=part.array,
        dim=int(meta["dim"]),
        width=part.width,
        aggregation=str(meta["aggregation"]),
        settings={key: meta[key] for key in _SETTINGS if meta.get(key) is not None},
        provenance=dict(meta["provenance"]),
    )


def match(tagger: Tagger, stores: Mapping[str, Store]) -> list[Part]:
    """The parts that the tagger scores, in its order. A tagger of one store takes the one store it
    is given, whatever its name.

    Raises InputError, one line, on a store that is missing or of another embedding, aggregation,
    width, weights or model options.
    """
    alone = len(tagger.sources) == 1 and len(stores) == 1
    parts = []
    for source in tagger.sources:
        name = next(iter(stores)) if alone else source.name
        if name not in stores:
            raise InputError(
                f"the tagger needs the stores {', '.join(s.name for s in tagger.sources)}; "
                f"{source.name!r} (embedding {source.embedding}) is not among those given: "
                f"{', '.join(stores) or 'none'}"
            )
        part = Part(name, stores[name], source.array)
        _require_same(source, source_of(part), str(part.store.path))
        parts.append(part)
    return parts


def _require_same(wanted: Source, found: Source, where: str) -> None:
    differences = {
        "embedding": (found.embedding, wanted.embedding),
        "aggregation": (found.aggregation, wanted.aggregation),
        "dim": (found.dim, wanted.dim),
        "width": (found.width, wanted.width),
        "weights": (found.weights, wanted.weights),
        **{key: (found.settings.get(key), wanted.settings.get(key)) for key in _SETTINGS},
        **_options(found.provenance, wanted.provenance),
    }
    for what, (here, there) in differences.items():
        if here != there:
            raise InputError(
                f"{where}: its {what} is {_short(here)}, but the tagger was trained on "
                f"{_short(there)}; extract the clips as for the tagger (embedding "
                f"{wanted.embedding}), or train one on this store"
            )


def _options(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What both say of the model, such as its variant, by default if not by name; versions and
    machines aside.
    """
    found, wanted = {**_DEFAULTS, **found}, {**_DEFAULTS, **wanted}
    shared = (found.keys() & wanted.keys()) - _CIRCUMSTANCES
    return {key: (found[key], wanted[key]) for key in sorted(shared)}


def _short(value: Any) -> str:
    if isinstance(value, list):  # hashes: their beginnings tell them apart
        value = ", ".join(text if " " in text else text[:12] for text in value) or "none"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
