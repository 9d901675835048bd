# Sourced by the scripts beside it: `use_catalogue DIR` takes a folder DIR that holds
#   audio/      the clips
#   tags.csv    clip,tags,track: what each clip is, and the track that it is a part of
# and sets $catalogue to its path, $dataset to its name and $work to the folder for what is made of it: .cache/catalogue, as
# in the flagfiles, or .cache/catalogue_NAME where DIR has another name. `make_split SEED` then draws $work/splitSEED.csv by
# track, `extract_musicnn SECONDS` makes a store per layer, `flags NAME` writes launch/NAME.cfg for $work and prints where.
# They need environment.sh, $python, and $root as the working directory.

use_catalogue() {
  catalogue=$(cd "$1" && pwd) work=.cache/catalogue
  dataset=$(basename "$catalogue")
  [ "$dataset" = catalogue ] || work+=_$(tr -c '[:alnum:]._\n-' _ <<<"$dataset")
}

make_split() {
  "$python" -m extract.prepare --dataset=folder --audio_root="$catalogue/audio" --tags="$catalogue/tags.csv" \
    --group_by=track --seed="$1" --out="$work/split$1.csv"
}

extract_catalogue() { extract_store "$1" --manifest="$work/split0.csv" --audio_root="$catalogue/audio" "${@:2}"; }

extract_musicnn() {
  extract_catalogue "$work/musicnn_${1}s" --embedding=musicnn --musicnn_window="$1" --musicnn_hop="$1" \
    --musicnn_layer={timbral,temporal,cnn1,cnn2,cnn3,penultimate}
}

flags() {
  mkdir -p "$work"
  sed "s|\.cache/catalogue/|$work/|" "launch/$1.cfg" > "$work/$1.cfg"
  echo "$work/$1.cfg"
}
