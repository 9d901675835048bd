"""Make a store of features that you already have: one vector per clip.

    python -m extract.import_arrays --features=X.npy --clip_ids=ids.txt --name=mine \\
        --store=stores/mine

--features is a two-dimensional array of numbers, one row per clip:
  .npy   an array;
  .npz   an archive of one array, or of several with --key naming one;
  .csv   numbers separated by comma, semicolon or tab, with a header or without. Without --clip_ids,
  a column must be headed clip_id.
--clip_ids is a text file with one id per line, in the order of the rows.

Side information about music (an artist's, an album's, a mood from listening data) is a vector per
group or track: with --by=group or --by=track the rows are named after that column of --manifest
(in --clip_ids, or in a .csv's column `group` or `track`), and each of its clips gets the vector.
Clips without one are left out, with a note; a sweep joins such a store like any other.

A data frame's index is no feature: a column that counts the rows, equals the ids, or holds integers
below an empty header is left out, with a note. Where that is not sure, --id_columns must say.
"""

from absl import flags

from extract.errors import InputError
from extract.manifest import read_manifest
from extract.shell import complain, run
from extract.storage.array_files import ID_COLUMNS
from extract.storage.arrays import import_arrays
from extract.storage.spread import COLUMNS, Spread

flags.DEFINE_string("features", None, "Features: .npy, .npz or .csv.")
flags.DEFINE_string(
    "clip_ids",
    None,
    "Text file of clip ids, one per line; optional for a .csv with a clip_id column.",
)
flags.DEFINE_enum(
    "by", "clip", ["clip", *COLUMNS], "What a row is of: a clip, or all clips of a track or group."
)
flags.DEFINE_string("manifest", None, "With --by=track or group: whose clips get the vectors.")
flags.DEFINE_string("key", None, "Which array of an .npz.")
flags.DEFINE_enum(
    "id_columns",
    "auto",
    ID_COLUMNS,
    "Columns that look like an index or ids: auto leaves out those that surely are, and stops "
    "where in doubt; keep makes features of them; drop leaves them out.",
)
flags.DEFINE_string("name", None, "Name of the embedding.")
flags.DEFINE_string("store", None, "Directory of the store to make.")
FLAGS = flags.FLAGS


def main() -> None:
    for name in ("features", "name", "store"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is missing; see --help")
    if (FLAGS.by != "clip") != bool(FLAGS.manifest):
        raise InputError("--by=group (or track) and --manifest belong together: give both")
    spread = Spread(FLAGS.by, read_manifest(FLAGS.manifest)) if FLAGS.manifest else None
    clips, dim, new = import_arrays(
        FLAGS.features,
        FLAGS.clip_ids,
        FLAGS.name,
        FLAGS.store,
        FLAGS.key,
        FLAGS.id_columns,
        note=lambda text: complain(f"note: {text}"),
        spread=spread,
    )
    print(
        f"{FLAGS.name}: {clips} clips of {dim} values in "
        f"{FLAGS.store}{'' if new else ', as before'}"
    )


if __name__ == "__main__":
    run(main)
