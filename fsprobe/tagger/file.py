"""tagger.safetensors: a head per tag, how its logits become probabilities, and where both come
from.

Tensors, all float32: `kernel` `[tag, dim]`, `bias` `[tag]`, `calibration` `[tag, 2]` (probability =
sigmoid(a · logit + b), a > 0), `threshold` `[tag]` (a tag is given where its probability reaches
it). Metadata: `format`, `tags` (a JSON list, in row order), `embedding`, `stores`, `aggregation`,
`training` (per tag), `manifest_sha256`, `versions`. safetensors and NumPy alone read it.

A file from elsewhere is not trusted: whatever it holds is checked before it is used, and nothing in
it is ever executed.
"""

import collections
import json
import re
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import InputError
from extract.files import atomic_write
from fsprobe.config import is_store_name
from fsprobe.tagger.tagger import Source, Tagger

FORMAT = "fsprobe tagger 1"
TENSORS = ("bias", "calibration", "kernel", "threshold")
_KEYS = ("format", "tags", "embedding", "stores", "aggregation", "training")
# what is read of a store, and its kind
_OF_STORE = {
    **dict.fromkeys(("name", "embedding", "array", "aggregation"), str),
    **dict.fromkeys(("dim", "width"), int),
    **dict.fromkeys(("settings", "provenance"), dict),
}


def write_tagger(path: str | Path, tagger: Tagger) -> None:
    """Write the file atomically; the same tagger gives the same bytes.

    safetensors' own writer orders the metadata differently from run to run, so the header is made
    here: its length (uint64), JSON padded to 8 bytes, then the tensors end to end.
    Raises InputError if `read_tagger` would refuse the file.
    """
    check(tagger, str(path))
    tensors = {name: getattr(tagger, name).astype("<f4", copy=False) for name in TENSORS}
    header: dict[str, Any] = {"__metadata__": _metadata(tagger)}
    start = 0
    for name, tensor in tensors.items():
        end = start + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(header, ensure_ascii=True, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path, binary=True) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())


def read_tagger(path: str | Path) -> Tagger:
    """Read and check a tagger. Raises InputError, one line, on anything that is not one."""
    path = Path(path)
    tensors, metadata = _read_tensors(path)
    for key in _KEYS:
        _require(key in metadata, path, f"no {key!r} in its metadata, as every tagger has")
    if metadata["format"] != FORMAT:
        raise InputError(
            f"{path}: format {_short(metadata['format'])}, this program reads {FORMAT!r}; "
            "use the fsprobe that wrote it, or train it again"
        )
    tags = _json(metadata, "tags", list, path)
    training = _json(metadata, "training", dict, path)
    for tag, record in training.items():
        highest = record.get("highest_probability", 1.0) if isinstance(record, dict) else None
        _require(_is_positive(highest, 1), path, f"what it says of tag {_short(tag)} is malformed")
    shared = _json(metadata, "shared", dict, path) if "shared" in metadata else {}
    for key in ("pooled_slope", "clip_seconds"):
        value = shared.get(key, 1.0)
        _require(_is_positive(value), path, f"{key} {_short(value)} is no positive number")
    tagger = Tagger(
        tags=tuple(tags),
        **tensors,
        embedding=metadata["embedding"],
        sources=tuple(_source(entry, path) for entry in _json(metadata, "stores", list, path)),
        training=training,
        shared=shared,
        manifest_sha256=metadata.get("manifest_sha256", ""),
        versions=_json(metadata, "versions", dict, path) if "versions" in metadata else {},
    )
    check(tagger, str(path))
    said, found = metadata["aggregation"], tagger.aggregation
    _require(
        said == found, path, f"aggregation {_short(said)}, but its stores have {_short(found)}"
    )
    return tagger


def check(tagger: Tagger, where: str) -> None:
    """Raise InputError unless the tensors have the shapes, the values and the tags they must."""
    count = len(tagger.tags)
    _require(count, where, "no tag in it")
    _require(tagger.sources, where, "no store in it")
    names = [source.name for source in tagger.sources]
    for name in names:  # it becomes a folder, of fsprobe.tag --audio
        _require(
            is_store_name(name) and names.count(name) == 1,
            where,
            f"a store is named {_short(name)}; a name stands once, and is letters, digits, '_', "
            "'.' and '-'",
        )
    for tag in tagger.tags:
        named = isinstance(tag, str) and tag.strip()
        _require(named, where, f"tag {_short(tag)} is not a name")
        _require(not re.search("[\ud800-\udfff]", tag), where, f"tag {_short(tag)} is not UTF-8")
    for tag, times in collections.Counter(tagger.tags).items():
        _require(times == 1, where, f"tag {_short(tag)} stands twice")
    dim = sum(source.width for source in tagger.sources)
    shapes = {
        "kernel": (count, dim),
        "bias": (count,),
        "calibration": (count, 2),
        "threshold": (count,),
    }
    for name, shape in shapes.items():
        array = getattr(tagger, name)
        _require(
            array.shape == shape and array.dtype == np.float32,
            where,
            f"{name} is {array.dtype} {array.shape}; by its {count} tags and stores it must be "
            f"float32 {shape}",
        )
    arrays = {name: getattr(tagger, name) for name in TENSORS}
    slope, threshold = tagger.calibration[:, 0], tagger.threshold
    for name, values, fine, what in (
        *((name, array, np.isfinite(array), "not finite") for name, array in arrays.items()),
        ("slope", slope, slope > 0, "not positive"),
        ("threshold", threshold, (threshold >= 0) & (threshold <= 1), "not within 0 and 1"),
    ):
        first = np.unravel_index(fine.argmin(), fine.shape)
        found, tag = values[first], _short(tagger.tags[first[0]])
        _require(fine.all(), where, f"the {name} of tag {tag} is {found:g}, {what}")


def _metadata(tagger: Tagger) -> dict[str, str]:
    stores = [
        {
            "name": source.name,
            "embedding": source.embedding,
            "array": source.array,
            "dim": source.dim,
            "width": source.width,
            "aggregation": source.aggregation,
            "licence": str(source.provenance.get("licence", "")),
            "weights_sha256": source.weights,
            "settings": dict(source.settings),
            "provenance": dict(source.provenance),
        }
        for source in tagger.sources
    ]
    training = {tag: tagger.training[tag] for tag in tagger.tags if tag in tagger.training}
    plain = {
        "format": FORMAT,
        "embedding": tagger.embedding,
        "aggregation": tagger.aggregation,
        "manifest_sha256": tagger.manifest_sha256,
    }
    structured = {
        "tags": list(tagger.tags),
        "stores": stores,
        "training": training,
        "shared": tagger.shared,
        "versions": tagger.versions,
    }
    return plain | {
        key: json.dumps(value, ensure_ascii=False, allow_nan=False)
        for key, value in structured.items()
    }


def _read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(the four tensors, metadata). safetensors checks the lengths in the file."""
    from safetensors import safe_open

    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; name a tagger that fsprobe.train wrote")
    try:
        with safe_open(path, framework="numpy") as opened:
            return {name: opened.get_tensor(name) for name in TENSORS}, opened.metadata() or {}
    except Exception as error:  # whatever a foreign or damaged file makes safetensors raise
        raise InputError(
            f"{path}: not a safetensors file with a tagger ({_short(str(error))}); name one that "
            "fsprobe.train wrote"
        ) from None


def _json(metadata: Mapping[str, str], key: str, kind: type, path: Path) -> Any:
    try:
        value = json.loads(metadata[key])
        json.dumps(value, allow_nan=False)  # Python reads NaN and Infinity, JSON has none
        problem = "" if isinstance(value, kind) else f"not a {kind.__name__}"
    except (ValueError, RecursionError) as error:
        problem = f"not JSON ({_short(str(error))})"
    _require(not problem, path, f"{key} in its metadata is {_short(metadata[key])}, {problem}")
    return value


def _source(entry: Any, path: Path) -> Source:
    whole: dict[str, Any] = {"settings": {}, "provenance": {}}
    whole |= entry if isinstance(entry, dict) else {}
    known = (
        all(type(whole.get(key)) is kind and whole[key] != "" for key, kind in _OF_STORE.items())
        and whole["array"] in ("features", "features_framenorm")
        and all(0 < whole[key] < 2**31 for key in ("dim", "width"))
    )
    _require(known, path, f"a store in its metadata is malformed ({_short(entry)})")
    return Source(**{key: whole[key] for key in _OF_STORE})


def _require(fine: object, where: object, what: str) -> None:
    """Raise InputError, saying what is wrong with the file, unless it is fine."""
    if not fine:
        raise InputError(f"{where}: {what}; train it again, or restore the file")


def _short(value: Any) -> str:
    """A value as part of a one-line message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _is_positive(value: Any, most: float = sys.float_info.max) -> bool:
    """Is it a number above 0, an integer beyond every float aside?"""
    return type(value) in (int, float) and 0 < value <= most
