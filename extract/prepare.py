"""Write manifest.csv for a dataset: which clips there are, where their audio is, their split and
their tags.

MagnaTagATune, from its official files (tab-separated, plain or .gz), or fetching them first (about
3 GB):

    python -m extract.prepare --dataset=magnatagatune --annotations=annotations_final.csv \\
        --clip_info=clip_info_final.csv --audio_root=mtat --out=manifest.csv
    python -m extract.prepare --dataset=magnatagatune --download --audio_root=mtat \\
        --out=manifest.csv

A folder of audio with a CSV of `clip,tags` (tags separated by |; optional columns clip_id, split,
and one to group by):

    python -m extract.prepare --dataset=folder --audio_root=music --tags=tags.csv --group_by=artist

Tags that stand in the files, beside the CSV's or without one; whole tracks cut into clips:

    python -m extract.prepare --dataset=folder --audio_root=music --tags_from=genre
    python -m extract.prepare --dataset=folder --audio_root=music --tags=tags.csv \\
        --segment_seconds=30 --segments=3

No tags yet: every audio file of the folder, of which nothing is known (fsprobe.review asks):

    python -m extract.prepare --dataset=folder --audio_root=music

The demo corpus, synthesised on the spot:

    python -m extract.prepare --dataset=demo --audio_root=demo --out=manifest.csv

Splits of your own for any of them: --split_file=splits.csv (clip_id,split); clips it does not name
are never used.

The same audio under two ids is found once a store has been extracted: the same command with
--store=STORE names it, --on_duplicate=drop keeps one clip of each, group keeps them in one split.
"""

import collections
import tempfile
from pathlib import Path

from absl import flags

from extract.datasets import magnatagatune
from extract.datasets.demo import DEMO_ROOT, DemoConfig, write_demo
from extract.datasets.folder import FolderConfig, folder_manifest
from extract.errors import InputError
from extract.manifest import Manifest, apply_split_file, rank_tags, write_manifest
from extract.manifests import duplicates
from extract.manifests.segments import SegmentConfig, cut_tracks, parse_count
from extract.manifests.splits import torn
from extract.manifests.tags import TagStyle
from extract.shell import complain, run

_DATASET = flags.DEFINE_enum(
    "dataset", None, ["magnatagatune", "folder", "demo"], "What to prepare.", required=True
)
_OUT = flags.DEFINE_string("out", "manifest.csv", "The manifest to write.")
_AUDIO_ROOT = flags.DEFINE_string(
    "audio_root",
    None,
    "Folder that the manifest's paths are relative to. magnatagatune: optional, checked for "
    f"missing files. demo: where to write, default {DEMO_ROOT}.",
)
_SPLIT_FILE = flags.DEFINE_string(
    "split_file", None, "CSV of clip_id,split that replaces the dataset's splits."
)
_SEED = flags.DEFINE_integer(
    "seed", DemoConfig.seed, "folder, demo: seed of the splits, of the corpus."
)

_SEGMENT_SECONDS = flags.DEFINE_float(
    "segment_seconds", None, "Cut every track into clips of this many seconds, which share a split."
)
_SEGMENTS = flags.DEFINE_string(
    "segments",
    "all",
    "With --segment_seconds: clips per track, spread evenly; `all`: as many as fit, end to end.",
)
_STORE = flags.DEFINE_string(
    "store", None, "A store of extract.run of these clips, to find the same audio under two ids."
)
_ON_DUPLICATE = flags.DEFINE_enum(
    "on_duplicate",
    "warn",
    duplicates.ACTIONS,
    "With --store, where clips have the same audio: name them; drop all but one; or make them one "
    "group, so that they share a split.",
)

_ANNOTATIONS = flags.DEFINE_string(
    "annotations", None, "magnatagatune: annotations_final.csv; required unless --download."
)
_CLIP_INFO = flags.DEFINE_string(
    "clip_info",
    None,
    "magnatagatune: clip_info_final.csv; optional, a check that both name the same mp3s.",
)
_SPLIT = flags.DEFINE_enum(
    "split",
    "clean",
    magnatagatune.SPLITS,
    "magnatagatune: clean, the clips with a top-50 tag; all, every clip "
    "(the three empty mp3s with an empty split).",
)
_DOWNLOAD = flags.DEFINE_bool(
    "download",
    False,
    "magnatagatune: fetch the official files and unpack the audio below --audio_root.",
)
_DOWNLOAD_DIR = flags.DEFINE_string(
    "download_dir", None, "magnatagatune: folder of the fetched files, default --audio_root."
)
_BASE_URL = flags.DEFINE_string(
    "base_url", magnatagatune.BASE_URL, "magnatagatune: where to fetch from (a mirror)."
)

_TAGS = flags.DEFINE_string(
    "tags",
    None,
    "folder: CSV with columns clip, tags and optionally clip_id, split, start, duration, track, "
    "not_tags.",
)
_TAGS_FROM = flags.DEFINE_string(
    "tags_from",
    FolderConfig.tags_from,
    "folder: read tags out of the audio files too: genre, grouping, txxx (the field TAGS) or "
    "txxx:NAME. Files that --tags does not name are clips as well.",
)
_GROUP_BY = flags.DEFINE_string(
    "group_by", FolderConfig.group_by, "folder: column whose groups stay together."
)
_TAG_SEPARATOR = flags.DEFINE_string(
    "tag_separator",
    TagStyle.separator,
    "folder: the text between two tags, such as , or ; - or `list` for ['rock', 'jazz'].",
)
_NORMALIZE_TAGS = flags.DEFINE_bool(
    "normalize_tags",
    TagStyle.normalize,
    "folder: make tags one that differ only in case, blanks, Unicode form or invisible "
    "characters, and leave out what looks like a missing value (nan).",
)
_VALID = flags.DEFINE_float(
    "valid_fraction", FolderConfig.valid_fraction, "folder: share of clips drawn for valid."
)
_TEST = flags.DEFINE_float(
    "test_fraction", FolderConfig.test_fraction, "folder: share of clips drawn for test."
)

_NUM_CLIPS = flags.DEFINE_integer(
    "num_clips", DemoConfig.num_clips, "demo: clips to synthesise, at least 20."
)

_ONLY_FOR = {
    "magnatagatune": ("annotations", "clip_info", "split", "download", "download_dir", "base_url"),
    "folder": (
        "tags",
        "tags_from",
        "group_by",
        "tag_separator",
        "normalize_tags",
        "valid_fraction",
        "test_fraction",
    ),
    "demo": ("num_clips",),
}


def main() -> None:
    _refuse_stray_flags()
    _check_out()
    manifest = {"magnatagatune": _magnatagatune, "folder": _folder, "demo": _demo}[_DATASET.value]()
    if _DATASET.value != "folder":
        manifest = _arrange(manifest)
    if _SPLIT_FILE.value:
        manifest, unknown = apply_split_file(manifest, _SPLIT_FILE.value)
        if unknown:
            _warn(f"{_SPLIT_FILE.value} names {unknown} clips that the manifest does not have")
        for kind, names in torn(manifest).items():
            _warn(
                f"{_SPLIT_FILE.value}: {len(names)} {kind}s lie in several splits, such as "
                f"{names[0]!r}; what is learnt of them is tested on them"
            )
    _check_duplicates(manifest)
    write_manifest(_OUT.value, manifest)
    print(f"{_OUT.value}: {_summary(manifest)}")


def _magnatagatune() -> Manifest:
    if _DOWNLOAD.value:
        if _ANNOTATIONS.value or _CLIP_INFO.value:
            raise InputError(
                "--download fetches both CSVs itself: leave out --annotations and --clip_info"
            )
        root = _needed("audio_root")
        files = magnatagatune.download(_DOWNLOAD_DIR.value or root, root, _BASE_URL.value)
        annotations, clip_info = map(str, files)
    else:
        annotations, clip_info = _needed("annotations"), _CLIP_INFO.value or ""
    manifest = magnatagatune.read_annotations(annotations)
    if clip_info:
        magnatagatune.check_clip_info(clip_info, manifest)
    manifest = magnatagatune.select(manifest, _SPLIT.value)
    if _AUDIO_ROOT.value:
        _check_audio(manifest, Path(_AUDIO_ROOT.value))
    return manifest


def _folder() -> Manifest:
    style = TagStyle(_TAG_SEPARATOR.value.replace("\\t", "\t"), _NORMALIZE_TAGS.value)
    config = FolderConfig(
        _SEED.value, _VALID.value, _TEST.value, _GROUP_BY.value, style, _TAGS_FROM.value
    )
    return folder_manifest(_TAGS.value or None, _needed("audio_root"), config, _warn, _arrange)


def _demo() -> Manifest:
    return write_demo(DemoConfig(_SEED.value, _NUM_CLIPS.value), _AUDIO_ROOT.value or DEMO_ROOT)


def _arrange(manifest: Manifest) -> Manifest:
    """What must be done to the clips before splits are drawn."""
    if _SEGMENT_SECONDS.value is not None:
        root = _AUDIO_ROOT.value or (DEMO_ROOT if _DATASET.value == "demo" else "")
        segments = SegmentConfig(_SEGMENT_SECONDS.value, parse_count(_SEGMENTS.value))
        manifest = cut_tracks(manifest, root or _needed("audio_root"), segments, _warn)
    elif flags.FLAGS["segments"].present:
        raise InputError(f"--segments={_SEGMENTS.value} needs --segment_seconds")
    if not _STORE.value or _ON_DUPLICATE.value == "warn":
        return manifest
    same = duplicates.same_audio(manifest, duplicates.audio_hashes(_STORE.value))
    if _ON_DUPLICATE.value == "group":
        return duplicates.group_duplicates(manifest, same)
    return duplicates.drop_duplicates(manifest, same, _warn)


def _check_duplicates(manifest: Manifest) -> None:
    """Warn of the same audio under two ids; raise InputError where it should share a split, and
    does not because splits are given.
    """
    if not _STORE.value:
        if flags.FLAGS["on_duplicate"].present:
            raise InputError(
                f"--on_duplicate={_ON_DUPLICATE.value} needs --store=DIR: a store of these clips"
            )
        return
    hashes = duplicates.audio_hashes(_STORE.value)
    if unknown := [clip for clip in manifest.clip_ids if clip not in hashes]:
        _warn(
            f"{len(unknown)} of {len(manifest)} clips have no audio in {_STORE.value} "
            f"(first: {unknown[0]!r}); whether it is that of another clip is not known"
        )
    same = duplicates.same_audio(manifest, hashes)
    if _ON_DUPLICATE.value == "group" and duplicates.crossing(manifest, same):
        raise InputError(
            f"--on_duplicate=group: {duplicates.describe(manifest, same)}, and these splits are "
            "given; pass --on_duplicate=drop"
        )
    if same and _ON_DUPLICATE.value == "warn":
        _warn(
            f"{duplicates.describe(manifest, same)}; --on_duplicate=drop keeps one of each, "
            "group keeps them in one split"
        )


def _needed(name: str) -> str:
    value: str | None = flags.FLAGS[name].value
    if not value:
        raise InputError(f"--dataset={_DATASET.value} needs --{name}")
    return value


def _refuse_stray_flags() -> None:
    """Raise InputError on a flag that this dataset would silently ignore."""
    for dataset, names in _ONLY_FOR.items():
        for name in names:
            if dataset != _DATASET.value and flags.FLAGS[name].present:
                raise InputError(
                    f"--{name} is for --dataset={dataset}, not {_DATASET.value}; leave it out"
                )
    if _DATASET.value == "magnatagatune" and flags.FLAGS["seed"].present:
        raise InputError("--seed: its splits are given, none is drawn; leave it out")


def _check_out() -> None:
    """Raise InputError unless --out can be written: now, not after a download."""
    out = Path(_OUT.value or "")
    if not _OUT.value or out.is_dir():
        raise InputError(
            f"--out={_OUT.value}: {'a directory' if _OUT.value else 'empty'}; name the manifest to "
            f"write"
        )
    try:
        tempfile.TemporaryFile(
            dir=next(folder for folder in out.absolute().parents if folder.exists())
        ).close()
    except OSError as error:
        raise InputError(
            f"--out={out}: cannot be written there ({error.strerror}); name another"
        ) from error


def _check_audio(manifest: Manifest, root: Path) -> None:
    """Warn of clips without a file: the manifest holds without them, the extraction will not."""
    missing = [path for path in manifest.paths if not (root / path).is_file()]
    if missing:
        _warn(
            f"{len(missing)} of {len(manifest)} clips have no file below --audio_root={root} "
            f"(first: {missing[0]}); "
            "extract.run would mark them failed. Is it the folder above 0 to f? --download fetches "
            "the audio"
        )


def _summary(manifest: Manifest) -> str:
    counts = collections.Counter(manifest.splits)
    splits = ", ".join(f"{counts[split]} {split}" for split in ("train", "valid", "test"))
    unused = f", {counts['']} unused" if counts[""] else ""
    tags = rank_tags(manifest)
    ends = f" (from {tags[0][0]} {tags[0][1]} to {tags[-1][0]} {tags[-1][1]})" if tags else ""
    return f"{len(manifest)} clips: {splits}{unused}; {len(tags)} tags{ends}"


def _warn(message: str) -> None:
    complain(f"warning: {message}")


if __name__ == "__main__":
    run(main)
