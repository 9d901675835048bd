"""Tags for every clip of a store, or of a folder of music, by a tagger of fsprobe.train.

  python -m fsprobe.tag --tagger=tagger.safetensors --store=musicnn=stores/musicnn --out=tags.csv
  python -m fsprobe.tag --tagger=tagger.safetensors --audio=music --out=tags.csv --m3u8=playlists
  python -m fsprobe.tag --tagger=tagger.safetensors --audio=music --out=tags.csv --write_tags=genre

Writes clip_id,tag,probability: the tags whose probability reaches their threshold, or with --top=N
the N best of each clip. The same command again goes on where this one was stopped. --write_tags
shows what it would write into the audio files; with --yes it writes, after what stood there went
into an undo file: python -m fsprobe.tag --undo_tags=tags.csv.undo.jsonl puts it back.
"""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from extract.cluster import Cluster, available
from extract.errors import InputError
from extract.files import make_directory, sha256_of
from extract.manifest import Manifest, read_manifest, resolve_audio
from extract.shell import run
from extract.store import Store
from fsprobe.tagger import options, outputs
from fsprobe.tagger.audio_files import extraction, file_tags
from fsprobe.tagger.file import read_tagger
from fsprobe.tagger.matching import Part, match
from fsprobe.tagger.on_cluster import ScoreOnCluster
from fsprobe.tagger.outputs import Place, Tagged
from fsprobe.tagger.tagger import Tagger
from fsprobe.tagger.tagging import (
    Items,
    items_by_clip,
    items_by_track,
    score_here,
    tag_items,
)

FLAGS = flags.FLAGS

flags.DEFINE_string("tagger", None, "A tagger that fsprobe.train wrote.")
flags.DEFINE_multi_string("store", [], "NAME=DIR: the features to tag. Repeatable.")
flags.DEFINE_string(
    "audio", None, "An audio file or a folder, instead of --store: extracted as the tagger's were."
)
flags.DEFINE_string("out", None, "The CSV to write: clip_id,tag,probability.")
flags.DEFINE_integer("top", 0, "The N best tags of each clip; 0: thresholds.", lower_bound=0)
flags.DEFINE_string(
    "all_scores", None, "A .npy to write too: float32 [clip, tag], every probability."
)
flags.DEFINE_enum("by", "clip", ["clip", "track"], "track: the mean over a track's clips.")
flags.DEFINE_string("manifest", None, "manifest.csv with the clips' tracks, paths and times.")
flags.DEFINE_string("audio_root", None, "Folder that the manifest's paths are relative to.")
flags.DEFINE_string("jsonl", None, "JSON lines to write too, a line per clip.")
flags.DEFINE_string("m3u8", None, "Folder for a playlist per tag.")
flags.DEFINE_string("audacity", None, "Folder for label tracks of files whose clips have a start.")
flags.DEFINE_enum(
    "write_tags", None, list(file_tags.FIELDS), "Add the tags to this field of the audio files."
)
flags.DEFINE_bool("yes", False, "With --write_tags: write, not only show.")
flags.DEFINE_string("undo_tags", None, "Put back what an undo file says, and nothing else.")
flags.DEFINE_string(
    "features_dir", None, "With --audio: where the features are kept; default: they are not."
)
flags.DEFINE_integer("num_workers", None, "With --audio: decoding processes.", lower_bound=1)
flags.DEFINE_float(
    "segment_seconds",
    None,
    "With --audio: cut files into clips of this length; 0: whole files. Default: as long as the "
    "clips that the tagger was trained on, where the manifest said.",
    lower_bound=0,
)
flags.DEFINE_enum(
    "engine",
    "local",
    ["local", "ray"],
    "Who scores, and with --audio extracts: this machine, or a Ray cluster whose nodes see the "
    "store under the same path (pip install 'fsprobe[ray]').",
)
flags.DEFINE_string("ray_address", "", "With --engine=ray: the cluster to join, as in extract.run.")
flags.DEFINE_string("weights", None, "With --audio: local weights file of the embedding.")
flags.DEFINE_string("cache_dir", None, "With --audio: where extract.weights keeps its files.")

_OF_AUDIO = ("features_dir", "num_workers", "segment_seconds", "weights", "cache_dir")
_PASSED_ON = ("num_workers", "weights", "cache_dir", "engine", "ray_address")


def main() -> int:
    if FLAGS.undo_tags:
        return _undo()
    _check_flags()
    tagger = read_tagger(FLAGS.tagger)
    if not FLAGS.audio:
        manifest = read_manifest(FLAGS.manifest) if FLAGS.manifest else None
        root = Path(FLAGS.audio_root) if FLAGS.audio_root else None
        return _tag(tagger, options.open_stores(FLAGS.store), manifest, root)
    root, paths = extraction.find_audio(Path(FLAGS.audio))
    kept = FLAGS.features_dir
    work = Path(kept or tempfile.mkdtemp(prefix="fsprobe-"))
    try:
        seconds = _clip_seconds(tagger)
        if FLAGS.by == "track" and not seconds:
            raise InputError(
                "--by=track: whole files are clips of no track; give --segment_seconds, or tag by "
                "clip"
            )
        manifest = extraction.manifest_of(root, paths, seconds, work)
        given = {name: FLAGS[name].value for name in _PASSED_ON if FLAGS[name].value}
        stores, failed = extraction.extract(tagger, manifest, root, work, given)
        for clip, reason in failed.items():  # failures.csv may go with the features
            print(f"not tagged: {clip}: {reason}", file=sys.stderr)
        return max(_tag(tagger, stores, manifest, root), int(bool(failed)))
    finally:
        if not kept:
            shutil.rmtree(work, ignore_errors=True)


def _clip_seconds(tagger: Tagger) -> float:
    """How long the clips are that files are cut into; 0: whole files."""
    given = FLAGS.segment_seconds
    seconds = float(tagger.shared.get("clip_seconds", 0.0) if given is None else given)
    if 0 < seconds < extraction.SHORTEST:
        whose = f"the clips that {FLAGS.tagger} was trained on have" if given is None else "that is"
        raise InputError(
            f"--segment_seconds={seconds:g}: {whose} less than {extraction.SHORTEST:g} s; give "
            "longer clips, or 0 for whole files"
        )
    return seconds


def _check_flags() -> None:
    for name in ("tagger", "out"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is required; see --help")
    if FLAGS.ray_address and FLAGS.engine != "ray":
        raise InputError(f"--ray_address={FLAGS.ray_address}: needs --engine=ray")
    if FLAGS.engine == "ray":
        available()
    if bool(FLAGS.store) == bool(FLAGS.audio):
        raise InputError("give either --store=NAME=DIR or --audio=FILE_OR_FOLDER")
    if FLAGS.audio and (FLAGS.manifest or FLAGS.audio_root):
        raise InputError("--audio finds the files itself: leave out --manifest and --audio_root")
    for name in _OF_AUDIO:
        if FLAGS[name].present and not FLAGS.audio:
            raise InputError(f"--{name} is for extracting: it goes with --audio, not with --store")
    needs = [name for name in ("m3u8", "audacity", "write_tags") if FLAGS[name].value]
    needs += ["by=track"] if FLAGS.by == "track" else []
    if needs and not FLAGS.audio and not FLAGS.manifest:
        raise InputError(f"--{needs[0]} needs the clips' files or tracks: give --manifest")
    if FLAGS.write_tags and not FLAGS.audio and not FLAGS.audio_root:
        raise InputError("--write_tags needs the folder of the files: give --audio_root")
    if FLAGS.yes and not FLAGS.write_tags:
        raise InputError("--yes confirms --write_tags=genre, grouping or txxx; name one")
    if FLAGS.all_scores and not FLAGS.all_scores.endswith(".npy"):
        raise InputError(f"--all_scores={FLAGS.all_scores}: name a .npy file")
    undo = str(_undo_file()) if FLAGS.write_tags else None
    outputs = {name: FLAGS[name].value for name in ("out", "all_scores", "jsonl")}
    inputs = {name: FLAGS[name].value for name in ("tagger", "manifest", "audio", "weights")}
    options.check_outputs(outputs | {"write_tags": undo}, inputs)


def _tag(
    tagger: Tagger, stores: dict[str, Store], manifest: Manifest | None, root: Path | None
) -> int:
    parts = match(tagger, stores)
    items = _items(parts, manifest)
    out = Path(FLAGS.out)
    if out.is_dir():
        raise InputError(f"--out={out}: is a directory; name a file")
    make_directory(out.parent)
    work = out.with_name(f".{out.name}.partial")
    fingerprint = {
        "tagger": sha256_of(FLAGS.tagger),
        "stores": [[str(p.store.path.absolute()), p.store.meta["created"]] for p in parts],
        "done": [int((part.store.status == 1).sum()) for part in parts],
        "manifest": sha256_of(FLAGS.manifest) if FLAGS.manifest else "",
        "top": FLAGS.top,
        "by": FLAGS.by,
    }
    scores = Path(FLAGS.all_scores) if FLAGS.all_scores else None
    on = Cluster(FLAGS.ray_address) if FLAGS.engine == "ray" else contextlib.nullcontext()
    try:
        with on as cluster:
            score = ScoreOnCluster(cluster) if cluster else score_here
            records = tag_items(tagger, parts, items, FLAGS.top, work, fingerprint, scores, score)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from there", file=sys.stderr)
        raise
    kind = "track" if FLAGS.by == "track" else "clip_id"
    tagged = Tagged(items.names, tagger.tags, records, kind)
    outputs.write_csv(out, tagged)
    lacking = int((np.diff(items.ends, prepend=0) == 0).sum())
    print(f"{out}: {len(records)} tags of {len(items.names) - lacking} {FLAGS.by}s")
    if lacking:
        print(f"{lacking} {FLAGS.by}s have no finished row in the store, and no tags")
    code = _write_more(tagged, items, parts, manifest, root)
    shutil.rmtree(work)
    return code


def _items(parts: Sequence[Part], manifest: Manifest | None) -> Items:
    if FLAGS.by == "clip":
        return items_by_clip(parts)
    if manifest is None or not any(manifest.tracks):
        raise InputError(
            f"--by=track: the manifest {FLAGS.manifest or ''} names no tracks; tag by clip, or add "
            "a track column"
        )
    return items_by_track(parts, dict(zip(manifest.clip_ids, manifest.tracks, strict=True)))


def _write_more(
    tagged: Tagged,
    items: Items,
    parts: Sequence[Part],
    manifest: Manifest | None,
    root: Path | None,
) -> int:
    """The other outputs that were asked for; 1 if a file's tags could not be written."""
    if FLAGS.jsonl:
        outputs.write_jsonl(Path(FLAGS.jsonl), tagged)
    if manifest is None:
        return 0
    places = outputs.places_of(items, parts[0].store.clip_ids, manifest)
    counts = np.diff(items.ends, prepend=0)
    lacking = sum(not found for found, count in zip(places, counts, strict=True) if count)
    if lacking and (FLAGS.m3u8 or FLAGS.audacity or FLAGS.write_tags):
        print(f"{lacking} {FLAGS.by}s have no file in the manifest: what follows is without them")
    if FLAGS.m3u8:
        first = [found[0] if found else None for found in places]
        written = outputs.write_playlists(Path(FLAGS.m3u8), tagged, first, root)
        print(f"{FLAGS.m3u8}: {len(written)} playlists")
    if FLAGS.audacity:
        written = outputs.write_labels(Path(FLAGS.audacity), tagged, places)
        print(f"{FLAGS.audacity}: labels of {len(written)} files")
    if FLAGS.write_tags and root:
        return _write_tags(tagged, places, root)
    return 0


def _write_tags(tagged: Tagged, places: Sequence[Sequence[Place]], root: Path) -> int:
    """Show, and with --yes write."""
    files = outputs.tags_by_file(tagged, places)
    found = [(resolve_audio(root, path), tags) for path, tags in files.items()]
    changes, refused = file_tags.plan(found, FLAGS.write_tags)
    for line in refused:
        print(f"not written: {line}", file=sys.stderr)
    print(file_tags.describe(changes))
    if not FLAGS.yes:
        print(f"{len(changes)} files would change; nothing was written: --yes writes")
        return int(bool(refused))
    undo = _undo_file()
    file_tags.apply(changes, undo)
    print(f"{len(changes)} files changed; python -m fsprobe.tag --undo_tags={undo} undoes it")
    return int(bool(refused))


def _undo_file() -> Path:
    return Path(f"{FLAGS.out}.undo.jsonl")


def _undo() -> int:
    done, refused = file_tags.revert(Path(FLAGS.undo_tags))
    for line in refused:
        print(f"left as it is: {line}", file=sys.stderr)
    print(f"{done} files are as they were")
    return int(bool(refused))


if __name__ == "__main__":
    run(main)
