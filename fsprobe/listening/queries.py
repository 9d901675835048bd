"""A head from a text: what the labelled clips say of their tags, carried over by the words.

The map from features to word vectors is ESZSL (`fsprobe.heads.words.eszsl`), learnt on the tags of
a manifest; the text is a tag that nobody has labelled. Its vector is among the words, or made as
theirs were by `extract.words`, which runs as a child process: fsprobe loads no model.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest, parse_tags
from fsprobe.heads.head import Head
from fsprobe.heads.words.eszsl import zero_shot_heads
from fsprobe.labels import tag_pool
from fsprobe.tagger import labelled
from fsprobe.tagger.matching import Part
from fsprobe.words.vectors import Words, load_words, vectors_of


def head_of_text(
    text: str, words_path: Path, manifest: Manifest, parts: Sequence[Part]
) -> tuple[Head, Mapping[str, float]]:
    """(a head with the kernel `[1, dim]` of the text, the tags nearest to it by their words and
    their cosines).

    manifest: the clips to learn from, those with a split. Raises InputError where no tag or the
    text has no vector.
    """
    if parse_tags(text, "`query`") != (text,):
        raise InputError(f"`query={text}`: give one tag or a few words, without a '|'")
    words = load_words(words_path)
    clips = labelled.clips_to_train_on(manifest, "all")
    clips, _ = labelled.without_missing(clips, parts, drop=True)
    tags = [tag for tag in tag_pool(clips, "all") if tag != text]
    vector = _vector(text, words, words_path)
    vectors, seen = vectors_of(words, tags)
    data = labelled.load(clips, parts, tags)
    mean, deviation = data.features.mean(axis=0), data.features.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    positive = data.positive > 0
    seen &= positive.any(axis=0) & ~positive.all(axis=0)
    if not seen.any():
        raise InputError(f"{words_path}: no tag of the manifest has a vector and a clip to learn")
    table = np.vstack([vectors, vector])
    heads, _ = zero_shot_heads(
        (data.features - mean) / deviation,
        np.column_stack([positive, np.zeros(len(positive))]).astype(np.float32),
        table,
        np.append(seen, False)[None],
        wanted=np.array([[len(tags)]]),
    )
    kernel = np.asarray(heads.kernel)[0] / deviation
    bias = np.asarray(heads.bias)[0] - kernel @ mean
    cosines = np.where(seen, vectors @ vector, -np.inf)
    nearest = np.argsort(-cosines, kind="stable")[: min(5, seen.sum())]
    near = {tags[place]: float(cosines[place]) for place in nearest}
    return Head(kernel.astype(np.float32), bias.astype(np.float32)), near


def _vector(text: str, words: Words, words_path: Path) -> np.ndarray:
    """float32 `[dim]` of length 1."""
    if text in words.tags:
        return vectors_of(words, [text])[0][0]
    with tempfile.TemporaryDirectory(prefix="fsprobe-") as folder:
        listed, out = Path(folder, "text.txt"), Path(folder, "words")
        listed.write_text(f"{text}\n", "utf-8")
        source = words.meta.get("path") or words.meta.get("source")
        prompts = [f"--prompt={prompt}" for prompt in words.meta.get("prompt") or ()]
        command = [sys.executable, "-m", "extract.words", f"--vectors={source}", *prompts]
        command += [f"--tags=file:{listed}", f"--out={out}"]
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode:
            raise InputError(
                f"{text!r} has no vector in {words_path}, and extract.words made none; its message "
                "is above"
            )
        return vectors_of(load_words(out), [text])[0][0]
