#!/usr/bin/env bash
# What words do: bash launch/words.sh DATA [CATALOGUE], with the folder DATA of launch/mtat_posteriors.sh and, for the
# second part, the folder CATALOGUE of launch/catalogue.sh, whose tags are games and artists.
# Writes results/words/magnatagatune and results/words/catalogue, reports included; the folders of the same names in
# results/reference/words are copies. Stopped, the same command goes on. SEEDS makes it smaller.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/catalogue_stores.sh"
usage="usage: bash launch/words.sh DATA [CATALOGUE] (see the head of this file)"
[ $# -ge 1 ] && [ -d "$1/mtat_posteriors" ] || fail "$usage"
[ $# = 1 ] || { [ -f "$2/tags.csv" ] && [ -d "$2/audio" ]; } || fail "$usage"
data=$(cd "$1" && pwd)
catalogue=${2:+$(cd "$2" && pwd)}
make_environment .venv extract
cd "$root"
work=.cache/words seeds=${SEEDS:-20}
mkdir -p $work

"$python" -m extract.prepare --dataset=magnatagatune --out=$work/manifest.csv \
  --annotations="$data/magnatagatune/annotations_final.csv.gz" --clip_info="$data/magnatagatune/clip_info_final.csv.gz" \
  --split_file="$data/mtat_posteriors/split.csv"
# tags with ten training and five test clips; posteriors as logits, side by side
"$python" - "$data/mtat_posteriors" $work <<'PYTHON'
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from extract.manifest import rank_tags, read_manifest

data, work = map(Path, sys.argv[1:])
manifest = read_manifest(work / "manifest.csv")
clips = list(zip(manifest.splits, manifest.tags, strict=True))
train, test = (Counter(tag for split, tags in clips if split == part for tag in tags) for part in ("train", "test"))
kept = [tag for tag, _ in rank_tags(manifest) if train[tag] >= 10 and test[tag] >= 5]
(work / "tags.txt").write_text("".join(f"{tag}\n" for tag in kept))
posteriors = [np.load(data / f"{name}_musicnn.npy", allow_pickle=False) for name in ("msd", "jamendo")]
likely = np.clip(np.concatenate(posteriors, axis=1).astype(np.float64), 1e-7, 1 - 1e-7)
np.save(work / "logits.npy", np.log(likely / (1 - likely)).astype(np.float32))
PYTHON
"$python" -m extract.import_arrays --features=$work/logits.npy --clip_ids="$data/mtat_posteriors/clip_ids.txt" \
  --name=logits --store=$work/logits
"$python" -m extract.words --vectors=minilm --manifest=$work/manifest.csv --out=$work/minilm
"$python" -m fsprobe.sweep --flagfile=launch/words.cfg --num_seeds=$seeds
"$python" -m fsprobe.report --results=results/words/magnatagatune

[ -n "$catalogue" ] || exit 0
use_catalogue "$catalogue"
make_split 0
extract_musicnn 3
"$python" -m extract.words --vectors=minilm --manifest=$work/split0.csv --out=$work/minilm
"$python" -m fsprobe.sweep --flagfile="$(flags words_catalogue)" --dataset="$dataset" --num_seeds=$seeds
"$python" -m fsprobe.report --results=results/words/catalogue
