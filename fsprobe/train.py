"""A tagger from marked clips: a head per tag, judged out of fold, calibrated, with a threshold.

  python -m fsprobe.train --manifest=manifest.csv --store=musicnn=stores/musicnn \\
      --out=tagger.safetensors --report=report

adds a tag or refits one, every other row byte for byte the same:

  python -m fsprobe.train --manifest=manifest.csv --store=musicnn=stores/musicnn \\
      --update=tagger.safetensors --tags=file:new_tags.txt --out=tagger.safetensors

lets a new tag start from its name and the tags there are:

  python -m extract.words --vectors=minilm --manifest=manifest.csv --out=words
  python -m fsprobe.train --manifest=manifest.csv --store=musicnn=stores/musicnn --prior=words \\
      --words=words --update=tagger.safetensors --tags=file:new_tags.txt --out=tagger.safetensors

edits, and compares:

  python -m fsprobe.train --update=tagger.safetensors --remove=noise --rename=folk=fok \\
      --out=edited.safetensors
  python -m fsprobe.train --update=tagger.safetensors --diff=edited.safetensors \\
      --store=musicnn=stores/musicnn

Trains on all clips that have a split (or --split=train). `not_tags` of the manifest are the no's,
and what stands in neither column is unknown; without that column everything not listed is a no.
Tracks and groups of the manifest are never on both sides of a judgement. fsprobe.tag applies the
tagger.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from extract.errors import InputError
from extract.files import sha256_of, version_of
from extract.manifest import Manifest, read_manifest
from extract.shell import run
from extract.store import Store
from fsprobe import shell
from fsprobe.flags import parse_l2
from fsprobe.labels import tag_pool
from fsprobe.tagger import changes, labelled, options, summary
from fsprobe.tagger.file import read_tagger, write_tagger
from fsprobe.tagger.fitting import FitFromWords, fit_heads
from fsprobe.tagger.judging.thresholds import parse_rule
from fsprobe.tagger.matching import Part, match, parts_of, usual_embedding
from fsprobe.tagger.outputs import clip_places
from fsprobe.tagger.tagger import Tagger
from fsprobe.tagger.training import FitHeads, Rows, TrainConfig, tagger_of, train
from fsprobe.tagger.unlabelled import (
    SELF_TRAINING,
    WAYS,
    load_rest,
    with_unlabelled,
)
from fsprobe.words.config import NONE, WORDS
from fsprobe.words.vectors import load_words

FLAGS = flags.FLAGS

flags.DEFINE_string("manifest", None, "manifest.csv of extract.prepare: clips, splits and tags.")
flags.DEFINE_multi_string(
    "store", [], "NAME=DIR: features by extract.run or extract.import_arrays. Repeatable."
)
flags.DEFINE_string(
    "embedding",
    None,
    "A store's name, A+B, or `combined`. Default: the store; of several, `combined`.",
)
flags.DEFINE_string(
    "tags", None, "Tags to learn: all (every tag with a positive; the default), top:N or file:PATH."
)
flags.DEFINE_enum(
    "split", "all", ["all", "train", "valid", "test"], "Clips to train on; all: those with a split."
)
flags.DEFINE_string("out", None, "The tagger to write, a .safetensors file.")
flags.DEFINE_string(
    "threshold",
    "f1",
    "How thresholds are chosen: f1, precision:NUMBER (the most clips at that precision), or rate "
    "(as many clips as the prevalence says).",
)
flags.DEFINE_string(
    "prevalence",
    "labels",
    "How common tags are where the tagger will be used: labels (as in the marked clips), a number, "
    "or a CSV of tag,prevalence. Probabilities and precision are stated for it.",
)
flags.DEFINE_string("l2", "auto", "Strength of the penalty l2/2 |w|^2; auto: chosen per tag.")
flags.DEFINE_integer("folds", TrainConfig.folds, "Parts of the cross-validation.", lower_bound=2)
flags.DEFINE_enum(
    "missing", "error", ["error", "drop"], "Where a store lacks a clip: stop, or drop the clip."
)
flags.DEFINE_string("update", None, "A tagger to start from: only --tags are added or refitted.")
flags.DEFINE_multi_string("remove", [], "With --update: a tag to take out. Repeatable.")
flags.DEFINE_multi_string("rename", [], "With --update: OLD=NEW. Repeatable.")
flags.DEFINE_string(
    "diff",
    None,
    "A tagger that the result (or --update, if nothing changes) is compared with: which tags "
    "changed and, with --store, by how much.",
)
flags.DEFINE_enum(
    "prior",
    NONE,
    [NONE, WORDS],
    "What heads are pulled to: none, 0; words, the head that a tag's name gives out of the heads "
    "of the other tags there are, those of --update if it is given.",
)
flags.DEFINE_string("words", None, "With --prior=words: DIR of extract.words.")
flags.DEFINE_enum(
    "unlabelled",
    "none",
    ["none", *WAYS],
    "What to make of clips without a split: nothing; negatives of a small weight; or a teacher's "
    "confident answers as labels. In sweeps they helped little, and negatives of a large weight "
    "did harm (results/reference/unlabelled).",
)
flags.DEFINE_float(
    "unlabelled_weight",
    0.1,
    "What the unlabelled clips count together, as a share of the labelled ones.",
    lower_bound=0,
)
flags.DEFINE_string(
    "teacher",
    None,
    "With --unlabelled=self_training: the embedding that the teacher learns on; default: the same.",
)
flags.DEFINE_bool("dry_run", False, "Only say what would be trained: counts, memory, time.")
flags.DEFINE_string("report", None, "Directory for a page on every tag.")
flags.DEFINE_string(
    "audio_root", None, "With --report: folder of the manifest's paths, to play clips."
)

_HEAVIEST = 1e6  # share of the labelled clips: float32 has weights far beyond it, but no use
_OF_TRAINING = (
    *("embedding", "tags", "split", "threshold", "prevalence", "l2", "folds", "missing", "prior"),
    *("words", "unlabelled", "unlabelled_weight", "teacher", "dry_run", "report", "audio_root"),
)


def main() -> None:
    stores = options.open_stores(FLAGS.store)
    old = read_tagger(FLAGS.update) if FLAGS.update else None
    _check_flags(old)
    other = read_tagger(FLAGS.diff) if FLAGS.diff else None  # before --out may take its place
    tagger = _edited(old) if old else None
    if FLAGS.manifest:
        tagger = _train(tagger, stores)
        if tagger is None:
            return
    if tagger is None:
        raise InputError("--manifest is required to train; see --help")
    if FLAGS.out:
        write_tagger(FLAGS.out, tagger)
        print(f"{FLAGS.out}: {len(tagger.tags)} tags on {tagger.embedding}")
    if other:
        found = changes.compare(other, tagger, stores)
        print(summary.differences(found))


def _check_flags(old: Tagger | None) -> None:
    if (FLAGS.remove or FLAGS.rename) and not old:
        raise InputError("--remove and --rename change a tagger: name it with --update")
    if old and FLAGS.manifest and not FLAGS.tags:
        raise InputError(
            "--update with --manifest: name the tags to add or refit with --tags=file:PATH, top:N "
            "or all; the others stay as they are"
        )
    if FLAGS.manifest and not FLAGS.store:
        raise InputError("--store=NAME=DIR is required at least once; see --help")
    changing = FLAGS.manifest or FLAGS.remove or FLAGS.rename
    if not FLAGS.out and not FLAGS.dry_run and (changing or not FLAGS.diff):
        raise InputError("--out is required; see --help")
    if (FLAGS.prior == WORDS) != bool(FLAGS.words):
        raise InputError("--prior=words and --words=DIR (of extract.words) belong together")
    if FLAGS.teacher and FLAGS.unlabelled != SELF_TRAINING:
        raise InputError(f"--teacher={FLAGS.teacher}: goes with --unlabelled={SELF_TRAINING}")
    if FLAGS.teacher and FLAGS.words and old and FLAGS.teacher != old.embedding:
        raise InputError(
            f"--teacher={FLAGS.teacher}: with --prior=words the heads of {FLAGS.update} are on "
            f"{old.embedding}, and a teacher on other features has none; leave one of the two out"
        )
    for name in _OF_TRAINING:
        if FLAGS[name].present and not FLAGS.manifest:
            raise InputError(f"--{name} is for training: give --manifest and --store")
    if FLAGS["unlabelled_weight"].present and FLAGS.unlabelled == "none":
        raise InputError(f"--unlabelled_weight: goes with --unlabelled={' or '.join(WAYS)}")
    if not FLAGS.unlabelled_weight <= _HEAVIEST:
        raise InputError(
            f"--unlabelled_weight={FLAGS.unlabelled_weight:g}: a number of at most {_HEAVIEST:g}"
        )
    if FLAGS.out and Path(FLAGS.out).is_dir():  # not only after hours of training
        raise InputError(f"--out={FLAGS.out}: is a directory; name a file")
    if FLAGS.report and Path(FLAGS.report).is_file():
        raise InputError(f"--report={FLAGS.report}: is a file; name a directory")
    inputs = {name: FLAGS[name].value for name in ("manifest", "prevalence")}
    tags = (FLAGS.tags or "").removeprefix("file:")
    options.check_outputs({"out": FLAGS.out}, inputs | {"tags": tags})


def _edited(old: Tagger) -> Tagger:
    tagger = changes.remove(old, FLAGS.remove) if FLAGS.remove else old
    names = options.parse_renames(FLAGS.rename, tagger.tags)
    return changes.rename(tagger, names) if names else tagger


def _train(tagger: Tagger | None, stores: dict[str, Store]) -> Tagger | None:
    """The tagger, new or grown; None for a dry run."""
    config = TrainConfig(
        rule=parse_rule(FLAGS.threshold),
        prevalence=options.parse_prevalence(FLAGS.prevalence),
        l2=parse_l2(FLAGS.l2),
        folds=FLAGS.folds,
    )
    embedding = _embedding(tagger, stores)
    parts = match(tagger, stores) if tagger else parts_of(stores, embedding)
    manifest = _clips(parts)
    tags, left_out = labelled.trainable(manifest, tag_pool(manifest, FLAGS.tags or "all"))
    for tag, why in left_out.items():
        print(f"left out: {tag!r}, {why}")
    fit = _fit(tags, tagger)
    if FLAGS.dry_run:
        positive, negative = labelled.labels(manifest, tags)
        counts = labelled.count(positive, negative, labelled.units_of(manifest))
        width = sum(part.width for part in parts)
        print(summary.plan(tags, counts, len(manifest), width, config))
        return None
    data = labelled.load(manifest, parts, tags)
    slope = changes.slope_for(tagger, tags) if tagger else None
    with shell.computing():
        shell.require_devices()
        if FLAGS.unlabelled != "none":
            fit = _to_unlabelled(fit, data, parts, stores)
        rows = train(data, fit, config, slope)
    print(summary.verdicts(tags, rows.training))
    print(summary.statement(config))
    if FLAGS.report:
        _write_report(rows, data, config, embedding, manifest)
    grown = changes.update(tagger, rows) if tagger else tagger_of(rows, parts, embedding, manifest)
    return _signed(grown)


def _fit(tags: tuple[str, ...], tagger: Tagger | None) -> FitHeads:
    """How heads are fitted: from 0, or from what the words say."""
    if not FLAGS.words:
        return fit_heads
    fit = FitFromWords(load_words(FLAGS.words), tags, tagger)
    without = [tag for tag, vector in zip(tags, fit.vectors, strict=True) if not vector.any()]
    if without:
        print(f"{FLAGS.words}: no vector of {', '.join(map(repr, without))}: no prior for them")
    return fit


def _to_unlabelled(
    fit: FitHeads, data: labelled.Labelled, parts: list[Part], stores: Mapping[str, Store]
) -> FitHeads:
    """`fit`, to the unlabelled clips too."""
    manifest = read_manifest(FLAGS.manifest)
    rest = load_rest(manifest, FLAGS.split, data, parts)
    if not rest.clip_ids:
        raise InputError(
            f"--unlabelled={FLAGS.unlabelled}: every clip of {FLAGS.manifest} with features has a "
            "split, and counts as labelled; leave the split of unlabelled clips empty"
        )
    print(f"{len(rest.clip_ids)} unlabelled clips: {FLAGS.unlabelled}")
    teacher = None
    if FLAGS.teacher:
        others = parts_of(stores, FLAGS.teacher)
        teacher = (
            labelled.features_of(others, data.clip_ids),
            labelled.features_of(others, rest.clip_ids),
        )
    return with_unlabelled(fit, rest, FLAGS.unlabelled, FLAGS.unlabelled_weight, teacher)


def _write_report(
    rows: Rows, data: labelled.Labelled, config: TrainConfig, embedding: str, manifest: Manifest
) -> None:
    from fsprobe.pages.write import write
    from fsprobe.tagger import report

    out, root = Path(FLAGS.report), Path(FLAGS.audio_root or ".")
    places = clip_places(manifest) if FLAGS.audio_root else {}
    write(report.page(rows, data, config, embedding, places, report.relative_url(root, out)), out)
    print(f"{out / 'report.html'} and {out / 'report.md'}")


def _embedding(tagger: Tagger | None, stores: dict[str, Store]) -> str:
    given: str | None = FLAGS.embedding
    if tagger is None:
        return given or usual_embedding(stores)
    if given not in (None, tagger.embedding):
        raise InputError(
            f"--embedding={given}: the tagger of --update is on {tagger.embedding!r}; leave it out"
        )
    return tagger.embedding


def _clips(parts: Sequence[Part]) -> Manifest:
    manifest = labelled.clips_to_train_on(read_manifest(FLAGS.manifest), FLAGS.split)
    manifest, dropped = labelled.without_missing(manifest, parts, FLAGS.missing == "drop")
    if dropped:
        print(f"{dropped} clips are missing from a store and were dropped")
    return manifest


def _signed(tagger: Tagger) -> Tagger:
    """With the manifest's hash and the versions of what made it."""
    versions = {package: version_of(package) for package in ("fsprobe", "jax", "numpy")}
    return dataclasses.replace(
        tagger, manifest_sha256=sha256_of(Path(FLAGS.manifest)), versions=versions
    )


if __name__ == "__main__":
    run(main)
