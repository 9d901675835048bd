"""tagger.safetensors: a head per tag, how its logits become probabilities, and where both come
from.

Tensors, all float32: `kernel` `[tag, dim]`, `bias` `[tag]`, `calibration` `[tag, 2]` (probability =
sigmoid(a · logit + b), a > 0), `threshold` `[tag]` (a tag is given where its probability reaches
it). Metadata: `format`, `tags` (a JSON list, in row order), `embedding`, `stores`, `aggregation`,
`training` (per tag), `manifest_sha256`, `versions`. safetensors and NumPy alone read it.

A file from elsewhere is not trusted: whatever it holds is checked before it is used, and nothing in
it is ever executed.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from extract.errors import InputError
from extract.files import atomic_write
from fsprobe.config import is_store_name
from fsprobe.tagger.tagger import Source, Tagger

FORMAT = "fsprobe tagger 1"
TENSORS = ("bias", "calibration", "kernel", "threshold")
LARGEST_HEADER = 100_000_000  # bytes, as safetensors has it
_KEYS = ("format", "tags", "embedding", "stores", "aggregation", "training")
_FIX = "train it again, or restore the file"


def write_tagger(path: str | Path, tagger: Tagger) -> None:
    """Write the file atomically; the same tagger gives the same bytes.

    safetensors' own writer orders the metadata differently from run to run, so the header is made
    here: its length (uint64), JSON padded to 8 bytes, then the tensors end to end.
    Raises InputError if `read_tagger` would refuse the file.
    """
    check(tagger, str(path))
    tensors = {
        name: np.ascontiguousarray(getattr(tagger, name), np.float32).astype("<f4", copy=False)
        for name in TENSORS
    }
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
        if key not in metadata:
            raise InputError(f"{path}: no {key!r} in its metadata; is it a tagger? {_FIX}")
    if metadata["format"] != FORMAT:
        raise InputError(
            f"{path}: format {_short(metadata['format'])}, this program reads {FORMAT!r}; "
            "use the fsprobe that wrote it, or train it again"
        )
    tags = _json(metadata, "tags", list, path)
    training = _json(metadata, "training", dict, path)
    for tag, record in training.items():
        _check_record(tag, record, path)
    shared = _json(metadata, "shared", dict, path) if "shared" in metadata else {}
    for key in ("pooled_slope", "clip_seconds"):
        value = shared.get(key, 1.0)
        if not is_number(value) or value <= 0:
            raise InputError(f"{path}: {key} {_short(value)} is no positive number; {_FIX}")
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
    if metadata["aggregation"] != tagger.aggregation:
        raise InputError(
            f"{path}: aggregation {_short(metadata['aggregation'])}, but its stores have "
            f"{_short(tagger.aggregation)}; {_FIX}"
        )
    return tagger


def check(tagger: Tagger, where: str) -> None:
    """Raise InputError unless the tensors have the shapes, the values and the tags they must."""
    count = len(tagger.tags)
    if not count or not tagger.sources:
        raise InputError(f"{where}: no {'store' if count else 'tag'} in it; {_FIX}")
    names = [source.name for source in tagger.sources]
    for name in names:  # it becomes a folder, of fsprobe.tag --audio
        if not is_store_name(name) or names.count(name) > 1:
            raise InputError(
                f"{where}: a store is named {_short(name)}; a name stands once, and is letters, "
                f"digits, '_', '.' and '-'; {_FIX}"
            )
    for tag in tagger.tags:
        _check_tag(tag, where)
    if len(set(tagger.tags)) < count:
        twice = next(tag for tag in tagger.tags if tagger.tags.count(tag) > 1)
        raise InputError(f"{where}: tag {_short(twice)} stands twice; {_FIX}")
    dim = sum(source.width for source in tagger.sources)
    shapes = {
        "kernel": (count, dim),
        "bias": (count,),
        "calibration": (count, 2),
        "threshold": (count,),
    }
    for name, shape in shapes.items():
        array = getattr(tagger, name)
        if array.shape != shape or array.dtype != np.float32:
            raise InputError(
                f"{where}: {name} is {array.dtype} {array.shape}; by its {count} tags and stores "
                f"it must be float32 {shape}; {_FIX}"
            )
        if not np.isfinite(array).all():
            first = int(np.argwhere(~np.isfinite(array))[0][0])
            raise InputError(
                f"{where}: NaN or Inf in {name} of tag {_short(tagger.tags[first])}; {_FIX}"
            )
    slope, threshold = tagger.calibration[:, 0], tagger.threshold
    for row in np.flatnonzero(slope <= 0).tolist():
        raise InputError(
            f"{where}: the slope of tag {_short(tagger.tags[row])} is {slope[row]:g}, not "
            f"positive; {_FIX}"
        )
    for row in np.flatnonzero((threshold < 0) | (threshold > 1)).tolist():
        raise InputError(
            f"{where}: the threshold of tag {_short(tagger.tags[row])} is {threshold[row]:g}, not "
            f"within 0 and 1; {_FIX}"
        )


def _metadata(tagger: Tagger) -> dict[str, str]:
    stores = [
        {
            "name": source.name,
            "embedding": source.embedding,
            "array": source.array,
            "dim": source.dim,
            "width": source.width,
            "aggregation": source.aggregation,
            "licence": source.licence,
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
    """(the four tensors, metadata). The file's own lengths are checked before it is mapped."""
    from safetensors import safe_open

    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a tagger that fsprobe.train wrote")
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or struct.unpack("<Q", head)[0] > min(LARGEST_HEADER, path.stat().st_size):
        raise InputError(f"{path}: not a safetensors file; name a tagger that fsprobe.train wrote")
    try:
        with safe_open(path, framework="numpy") as opened:
            metadata = dict(opened.metadata() or {})
            missing = [name for name in TENSORS if name not in opened.keys()]  # noqa: SIM118
            tensors = {} if missing else {name: opened.get_tensor(name) for name in TENSORS}
    except Exception as error:  # whatever a foreign or damaged file makes safetensors raise
        raise InputError(
            f"{path}: not readable as safetensors ({_short(str(error))}); {_FIX}"
        ) from None
    if missing:
        raise InputError(f"{path}: tensor {missing[0]!r} is missing; is it a tagger? {_FIX}")
    return tensors, metadata


def _json(metadata: Mapping[str, str], key: str, kind: type, path: Path) -> Any:
    try:
        value = json.loads(metadata[key], parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: {key} in its metadata is not JSON ({_short(str(error))}); {_FIX}"
        ) from None
    if not isinstance(value, kind):
        raise InputError(
            f"{path}: {key} in its metadata is {_short(metadata[key])}, not a {kind.__name__}; "
            f"{_FIX}"
        )
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_tag(tag: Any, where: str) -> None:
    if not isinstance(tag, str) or not tag.strip():
        raise InputError(f"{where}: tag {_short(tag)} is not a name; {_FIX}")
    if re.search("[\ud800-\udfff]", tag):
        raise InputError(f"{where}: tag {_short(tag)} is not UTF-8; {_FIX}")


def _check_record(tag: str, record: Any, path: Path) -> None:
    highest = record.get("highest_probability", 1.0) if isinstance(record, dict) else None
    if not is_number(highest) or not 0 < highest <= 1:
        raise InputError(f"{path}: what it says of tag {_short(tag)} is malformed; {_FIX}")


def _source(entry: Any, path: Path) -> Source:
    texts = ("name", "embedding", "array", "aggregation")
    known = isinstance(entry, dict)
    known = known and all(isinstance(entry.get(key), str) and entry[key] for key in texts)
    known = known and all(
        type(entry.get(key)) is int and 0 < entry[key] < 2**31 for key in ("dim", "width")
    )
    known = known and all(
        isinstance(entry.get(key, {}), dict) for key in ("settings", "provenance")
    )
    if not known or entry["array"] not in ("features", "features_framenorm"):
        raise InputError(f"{path}: a store in its metadata is malformed ({_short(entry)}); {_FIX}")
    return Source(
        **{key: entry[key] for key in (*texts, "dim", "width")},
        settings=entry.get("settings", {}),
        provenance=entry.get("provenance", {}),
    )


def _short(value: Any) -> str:
    """A value as part of a one-line message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number, not a bool."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
