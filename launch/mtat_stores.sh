# Sourced by the scripts beside it: `make_mtat_stores DATA` makes manifest and stores of MagnaTagATune's test clips in
# .cache/mtat_posteriors, from the outputs of two taggers. DATA holds
#   magnatagatune/annotations_final.csv.gz and clip_info_final.csv.gz   the official files
#   mtat_posteriors/{msd_musicnn,jamendo_musicnn}.npy                  float32 [4332, 50], one row per test clip
#   mtat_posteriors/clip_ids.txt and split.csv                         the rows' clips, and their new splits
# It needs $python, and $root as the working directory.

make_mtat_stores() {
  local data=$1 work=.cache/mtat_posteriors name
  "$python" -m extract.prepare --dataset=magnatagatune --out=$work/manifest.csv \
    --annotations="$data/magnatagatune/annotations_final.csv.gz" \
    --clip_info="$data/magnatagatune/clip_info_final.csv.gz" --split_file="$data/mtat_posteriors/split.csv"
  for name in msd_musicnn jamendo_musicnn; do
    "$python" -m extract.import_arrays --features="$data/mtat_posteriors/$name.npy" \
      --clip_ids="$data/mtat_posteriors/clip_ids.txt" --name=$name --store=$work/$name
  done
}
