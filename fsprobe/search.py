"""The clips of a store that are like a clip, have a tag, or fit a text; the best first.

  python -m fsprobe.search --store=musicnn=stores/musicnn --like=music/song.mp3
  python -m fsprobe.search --store=musicnn=stores/musicnn --tagger=tagger.safetensors --tag=rock \\
      --manifest=manifest.csv --out=rock.m3u8
  python -m fsprobe.search --store=musicnn=stores/musicnn --manifest=manifest.csv \\
      --words=words/minilm --query="slow and sad"

--like: the cosine of the features, each dimension scaled to the store's own mean and deviation;
repeated, the clips like all of them together. --tag: the tagger's probability. --query: a tag that
nobody has labelled, by its words (extract.words) and the manifest's labels; scores are relative.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from extract.errors import InputError
from extract.files import atomic_write
from extract.manifest import Manifest, read_manifest
from extract.shell import run
from extract.store import DONE, Store
from fsprobe.listening import ranking
from fsprobe.listening.queries import head_of_text
from fsprobe.listening.ranking import Ranked
from fsprobe.pages.text_table import text_table
from fsprobe.tagger import options
from fsprobe.tagger.file import read_tagger
from fsprobe.tagger.matching import Part, match, parts_of, usual_embedding
from fsprobe.tagger.outputs import Place, clip_places, one_line, write_playlist
from fsprobe.tagger.tagging import Items, Scorer, items_by_clip

FLAGS = flags.FLAGS

flags.DEFINE_multi_string("store", [], "NAME=DIR: the features to search. Repeatable.")
flags.DEFINE_string(
    "embedding",
    None,
    "A store's name, A+B or `combined`, with --like and --query. Default: the store; of several, "
    "`combined`.",
)
flags.DEFINE_multi_string("like", [], "A clip_id: what sounds like it. Repeatable.")
flags.DEFINE_string("tag", None, "A tag of --tagger: what has it.")
flags.DEFINE_string("tagger", None, "A tagger that fsprobe.train wrote.")
flags.DEFINE_string("query", None, "A text: what it says, by --words and --manifest.")
flags.DEFINE_string("words", None, "Word vectors of the manifest's tags, by extract.words.")
flags.DEFINE_string("manifest", None, "manifest.csv with the clips' files and labels.")
flags.DEFINE_string("audio_root", None, "Folder of the manifest's paths, for playlists.")
flags.DEFINE_integer("count", 20, "How many clips.", lower_bound=1)
flags.DEFINE_string("out", None, "A .m3u8 (needs --manifest) or a .csv to write too.")


def main() -> None:
    _check_flags()
    stores = options.open_stores(FLAGS.store)
    manifest = read_manifest(FLAGS.manifest) if FLAGS.manifest else None
    kind = next(name for name in _KINDS if FLAGS[name].value)
    parts, items, found, title = _KINDS[kind](stores, manifest)
    first = parts[0].store.clip_ids
    clips = [first[row] for row in items.rows[0][found.place].tolist()]
    places = clip_places(manifest) if manifest else {}
    if FLAGS.out:
        _write(Path(FLAGS.out), clips, found.score, places, title)
        lacking = sum(clip not in places for clip in clips)
        if lacking and FLAGS.out.endswith(".m3u8"):
            print(f"{lacking} clips have no file in {FLAGS.manifest}, and are not in {FLAGS.out}")
    rows = [
        (one_line(clip), f"{score:.3f}", one_line(places[clip].path) if clip in places else "")
        for clip, score in zip(clips, found.score.tolist(), strict=True)
    ]
    print(f"{title}, of {len(items.rows[0])} clips")
    print(text_table([("clip", "score", "file"), *rows], left=(0, 2), widest=60))


def _check_flags() -> None:
    given = [name for name in _KINDS if FLAGS[name].value]
    if len(given) != 1:
        raise InputError("give one of --like=CLIP, --tag=TAG with --tagger, or --query=TEXT")
    if not FLAGS.store:
        raise InputError("--store=NAME=DIR is required at least once; see --help")
    needs = {"tag": ("tagger",), "query": ("words", "manifest")}
    for name in needs.get(given[0], ()):
        if not FLAGS[name].value:
            raise InputError(f"--{given[0]} needs --{name}; see --help")
    if FLAGS.out and Path(FLAGS.out).suffix not in (".m3u8", ".csv"):
        raise InputError(f"--out={FLAGS.out}: name a .m3u8 or a .csv")
    if FLAGS.out and FLAGS.out.endswith(".m3u8") and not FLAGS.manifest:
        raise InputError("--out: a playlist needs the clips' files: give --manifest")
    inputs = {name: FLAGS[name].value for name in ("tagger", "manifest")}
    options.check_outputs({"out": FLAGS.out}, inputs)


_Found = tuple[Sequence[Part], Items, Ranked, str]


def _parts(stores: dict[str, Store]) -> tuple[list[Part], Items]:
    parts = parts_of(stores, FLAGS.embedding or usual_embedding(stores))
    return parts, _finished(items_by_clip(parts), parts)


def _finished(items: Items, parts: Sequence[Part]) -> Items:
    if not len(items.rows[0]):
        raise InputError(f"{parts[0].store.path}: no clip has a finished row; extract first")
    return items


def _like(stores: dict[str, Store], manifest: Manifest | None) -> _Found:
    parts, items = _parts(stores)
    clip_ids = parts[0].store.clip_ids
    place = {clip_ids[row]: place for place, row in enumerate(items.rows[0].tolist())}
    for clip in FLAGS.like:
        if clip not in place:
            lacking = next(part.store.path for part in parts if not _finished_in(part.store, clip))
            raise InputError(
                f"--like={clip}: no finished row of that clip in {lacking}; name a clip_id of its "
                "clip_ids.txt"
            )
    examples = [place[clip] for clip in FLAGS.like]
    standard = ranking.standard_of(parts, items.rows)
    score = ranking.cosine_to(parts, standard, [rows[examples] for rows in items.rows])
    wanted = FLAGS.count + len(set(examples))
    found = ranking.best(score, parts, items.rows, wanted, "searching")
    others = np.flatnonzero(~np.isin(found.place, examples))[: FLAGS.count]
    return parts, items, Ranked(*(c[others] for c in found)), f"like {', '.join(FLAGS.like)}"


def _finished_in(store: Store, clip: str) -> bool:
    return clip in store.clip_ids and store.status[store.clip_ids.index(clip)] == DONE


def _tag(stores: dict[str, Store], manifest: Manifest | None) -> _Found:
    tagger = read_tagger(FLAGS.tagger)
    if FLAGS.tag not in tagger.tags:
        raise InputError(
            f"--tag={FLAGS.tag}: not in {FLAGS.tagger}, which has {len(tagger.tags)} tags: "
            f"{', '.join(tagger.tags)}"
        )
    if FLAGS.embedding not in (None, tagger.embedding):
        raise InputError(
            f"--embedding={FLAGS.embedding}: {FLAGS.tagger} is on {tagger.embedding!r}; leave it "
            "out"
        )
    parts = match(tagger, stores)
    items = _finished(items_by_clip(parts), parts)
    scorer = Scorer(tagger.take([tagger.tags.index(FLAGS.tag)]), parts)
    found = ranking.best(
        lambda rows: scorer.logits(rows)[:, 0], parts, items.rows, FLAGS.count, "searching"
    )
    p = scorer.probabilities(found.score[:, None].copy())[:, 0]
    return parts, items, Ranked(found.place, p), f"tag {one_line(FLAGS.tag)}"


def _query(stores: dict[str, Store], manifest: Manifest | None) -> _Found:
    assert manifest is not None
    parts, items = _parts(stores)
    head, near = head_of_text(FLAGS.query, Path(FLAGS.words), manifest, parts)
    score = ranking.logit_of(parts, head)
    found = ranking.best(score, parts, items.rows, FLAGS.count, "searching")
    nearest = ", ".join(f"{one_line(tag)} {cosine:.2f}" for tag, cosine in near.items())
    return parts, items, found, f"text {FLAGS.query!r} (nearest tags: {nearest})"


_KINDS: Mapping[str, Callable[[dict[str, Store], Manifest | None], _Found]] = {
    "like": _like,
    "tag": _tag,
    "query": _query,
}


def _write(
    out: Path, clips: Sequence[str], scores: np.ndarray, places: Mapping[str, Place], title: str
) -> None:
    if out.suffix == ".m3u8":
        root = Path(FLAGS.audio_root) if FLAGS.audio_root else None
        write_playlist(out, title, [(clip, places.get(clip)) for clip in clips], root)
        return
    with atomic_write(out) as file:
        rows = ((clip, f"{score:.6f}") for clip, score in zip(clips, scores.tolist(), strict=True))
        csv.writer(file, lineterminator="\n").writerows([("clip_id", "score"), *rows])


if __name__ == "__main__":
    run(main)
