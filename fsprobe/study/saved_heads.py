"""heads/EMBEDDING.safetensors: every head of a sweep, written as it is fitted.

All tensors and their shapes are known before the first fit, so the file is made whole at once, of
NaN, and filled in place: `N/K/SEED/kernel` float32 `[tag, dim]` and `N/K/SEED/bias` `[tag]`, with
the prior that weights were pulled to before the last name, if there is one. A
sweep that is stopped leaves a file that safetensors reads, with NaN where nothing is fitted yet.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from extract.files import atomic_write
from fsprobe.heads.head import Head
from fsprobe.study.tables import ProbeKey
from fsprobe.words.config import NONE

FOLDER = "heads"


def tensor_name(key: ProbeKey, part: str) -> str:
    """part: kernel or bias."""
    prior = f"{key.prior}/" if key.prior not in ("", NONE) else ""
    return f"{key.n_way}/{key.k_shot}/{key.seed}/{prior}{part}"


def create(path: Path, keys: Sequence[ProbeKey], dim: int, metadata: Mapping[str, str]) -> None:
    """Write the file of NaN, in full, so that a full disk is noticed now. metadata: strings."""
    header, offset = {}, 0
    for key in keys:
        for part, shape in (("kernel", [key.n_way, dim]), ("bias", [key.n_way])):
            size = 4 * int(np.prod(shape))
            header[tensor_name(key, part)] = {
                "dtype": "F32",
                "shape": shape,
                "data_offsets": [offset, offset + size],
            }
            offset += size
    text = json.dumps({"__metadata__": dict(metadata), **header}).encode()
    text += b" " * (-len(text) % 8)
    block = np.full(1 << 20, np.nan, "<f4").tobytes()
    with atomic_write(path, binary=True) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, offset, len(block)):
            file.write(block[: min(len(block), offset - start)])


def fill(path: Path, heads: Mapping[ProbeKey, Head]) -> None:
    """Put heads into a file that `create` made."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for key, head in heads.items():
            for part in ("kernel", "bias"):
                entry = header[tensor_name(key, part)]
                file.seek(8 + size + entry["data_offsets"][0])
                array = np.ascontiguousarray(getattr(head, part), "<f4").reshape(entry["shape"])
                file.write(array.tobytes())
        file.flush()
        os.fsync(file.fileno())
