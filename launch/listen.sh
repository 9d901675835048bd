#!/usr/bin/env bash
# The studies of labelling by ear: bash launch/listen.sh DATA, with a folder DATA that holds
#   catalogue/{audio,tags.csv}                          a catalogue; tags.csv (clip,tags,track) is what a listener would say
#   magnatagatune/{annotations_final,clip_info_final}.csv.gz, mtat_posteriors/   as for launch/mtat_posteriors.sh
# Writes, each with its README.md and rows:
#   results/suggest/{catalogue,mtat_posteriors}   judgements needed by strategy (20 seeds)
#   results/listening                             from no label at all to a tagger: ROC-AUC over judgements
#   results/unlabelled/{catalogue,mtat_posteriors}   unlabelled clips in few-shot probes, paired tests (20 seeds)
# results/reference has copies. SEEDS (20) and DRAWS (3) make it smaller. Two cores: about 25 minutes,
# the extraction apart; the studies of unlabelled clips 16 minutes more on one of them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[ $# = 1 ] && [ -f "$1/catalogue/tags.csv" ] && [ -d "$1/mtat_posteriors" ] ||
  fail "usage: bash launch/listen.sh DATA (see the head of this file)"
data=$(cd "$1" && pwd)
make_environment .venv extract,review
cd "$root"
work=.cache/listen seeds=${SEEDS:-20} music=$data/catalogue/audio

"$python" -m extract.prepare --dataset=folder --audio_root="$music" --tags="$data/catalogue/tags.csv" --group_by=track \
  --out=$work/catalogue.csv
extract_store $work/musicnn --manifest=$work/catalogue.csv --audio_root="$music" --embedding=musicnn
"$python" -m extract.prepare --dataset=magnatagatune --out=$work/mtat.csv \
  --annotations="$data/magnatagatune/annotations_final.csv.gz" --clip_info="$data/magnatagatune/clip_info_final.csv.gz" \
  --split_file="$data/mtat_posteriors/split.csv"
mtat=(--manifest=$work/mtat.csv)
for name in msd_musicnn jamendo_musicnn; do
  "$python" -m extract.import_arrays --features="$data/mtat_posteriors/$name.npy" \
    --clip_ids="$data/mtat_posteriors/clip_ids.txt" --name=$name --store=$work/$name
  mtat+=(--store=$name=$work/$name)
done

"$python" -m tests.benchmarks.suggestions --manifest=$work/catalogue.csv --store=musicnn=$work/musicnn --seeds="$seeds" \
  --out=results/suggest/catalogue
"$python" -m tests.benchmarks.suggestions "${mtat[@]}" --use_splits --top=50 --seeds="$seeds" \
  --out=results/suggest/mtat_posteriors
"$python" -m tests.benchmarks.listening --tags="$data/catalogue/tags.csv" --audio_root="$music" \
  --store=musicnn=$work/musicnn --draws="${DRAWS:-3}" --out=results/listening
"$python" -m tests.benchmarks.unlabelled --manifest=$work/catalogue.csv --store=musicnn=$work/musicnn --seeds="$seeds" \
  --work=$work/unlabelled/catalogue --out=results/unlabelled/catalogue
"$python" -m tests.benchmarks.unlabelled "${mtat[@]}" --seeds="$seeds" --work=$work/unlabelled/mtat_posteriors \
  --out=results/unlabelled/mtat_posteriors
