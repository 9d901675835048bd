"""Which clips to label next, so that a tagger learns most from few answers.

  python -m fsprobe.suggest --tagger=tagger.safetensors --store=musicnn=stores/musicnn \\
      --manifest=manifest.csv --count=20 --out=next.csv

Writes clip_id,tag,score,reason. The tags take turns, the least judged first, each asks about a clip
that no tag has asked about before; --each_tag gives every tag --count clips of its own. Left out is
what the manifest says already, and what was judged in --labels (of fsprobe.review).

--strategy: uncertain, the probability nearest to 0.5; top, the most probable; diverse, unsure and
unlike what is labelled and chosen; balanced, from ten bins of the probability in turn; random.
"""

import csv
from pathlib import Path

import numpy as np
from absl import flags

from extract.errors import InputError
from extract.files import atomic_write
from extract.manifest import read_manifest
from extract.shell import run
from fsprobe.listening import pool as pools
from fsprobe.listening.judgements import Judgements
from fsprobe.listening.strategies import DEFAULT, STRATEGIES, suggest
from fsprobe.pages.text_table import text_table
from fsprobe.tagger import options
from fsprobe.tagger.file import read_tagger
from fsprobe.tagger.matching import match
from fsprobe.tagger.outputs import one_line

FLAGS = flags.FLAGS

flags.DEFINE_string("tagger", None, "A tagger that fsprobe.train wrote.")
flags.DEFINE_multi_string("store", [], "NAME=DIR: the clips' features. Repeatable.")
flags.DEFINE_string("manifest", None, "manifest.csv: the clips, and what is known of them.")
flags.DEFINE_string("labels", None, "Judgements of fsprobe.review: what else is known.")
flags.DEFINE_integer("count", 20, "How many clips.", lower_bound=1)
flags.DEFINE_multi_string("tag", [], "Ask about this tag of the tagger; default: about all.")
flags.DEFINE_bool("each_tag", False, "--count clips for every tag.")
flags.DEFINE_enum("strategy", DEFAULT, list(STRATEGIES), "How clips are chosen.")
flags.DEFINE_integer("seed", 0, "Of what is drawn at random.", lower_bound=0)
flags.DEFINE_string("out", None, "The CSV to write.")


def main() -> None:
    for name in ("tagger", "store", "manifest"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is required; see --help")
    inputs = {name: FLAGS[name].value for name in ("tagger", "manifest", "labels")}
    options.check_outputs({"out": FLAGS.out}, inputs)
    tagger = read_tagger(FLAGS.tagger)
    for tag in FLAGS.tag:
        if tag not in tagger.tags:
            raise InputError(f"--tag={tag}: not in {FLAGS.tagger}; it has {', '.join(tagger.tags)}")
    if FLAGS.labels and not Path(FLAGS.labels).is_file():
        raise InputError(f"--labels={FLAGS.labels}: no such file; fsprobe.review makes it")
    manifest = read_manifest(FLAGS.manifest)
    pool = pools.pool_of(manifest, match(tagger, options.open_stores(FLAGS.store)))
    current = Judgements(FLAGS.labels).current() if FLAGS.labels else {}
    tags = list(dict.fromkeys(FLAGS.tag)) or list(tagger.tags)
    chosen = tagger.take([tagger.tags.index(tag) for tag in tags])
    found = suggest(
        FLAGS.strategy,
        pools.probabilities(pool, chosen),
        pools.with_judged(pools.listed_labels(pool, manifest, tags), pool, current, tags),
        FLAGS.count,
        np.random.default_rng(FLAGS.seed),
        pools.directions_of(pool),
        FLAGS.each_tag,
    )
    rows = [(pool.clip_ids[one.place], tags[one.tag], one.score, one.reason) for one in found]
    if FLAGS.out:
        with atomic_write(FLAGS.out) as file:
            exact = ((clip, tag, f"{score:.6f}", why) for clip, tag, score, why in rows)
            header = ("clip_id", "tag", "score", "reason")
            csv.writer(file, lineterminator="\n").writerows([header, *exact])
    shown = [(one_line(clip), one_line(tag), f"{score:.3f}", why) for clip, tag, score, why in rows]
    print(text_table([("clip", "tag", "score", "reason"), *shown], left=(0, 1, 3), widest=60))
    if not rows:
        print(f"nothing is left to ask: all {len(pool.clip_ids)} clips are judged for these tags")


if __name__ == "__main__":
    run(main)
