"""Check a store from end to end.

    python -m extract.verify --store=stores/logmel
    python -m extract.verify --store=stores/logmel --audio_root=audio --manifest=manifest.csv

Reads everything: formats, shapes and ids, every status, the values of every finished clip (no NaN,
no Inf), the frames' offsets, failures.csv against the statuses, and the checksums of a complete
store. A store that is still being filled is fine as far as it goes. Then it says how many seconds
the clips have, and which are shorter than promised. With --audio_root, files are compared with what
was recorded of them when they were extracted; with --manifest, the same audio in several splits is
named. Exit code 0: no problem found; 1: files have changed or are gone; 2: the first problem, and
how many there are. Of a directory that holds a store per layer of a model, each is checked.
"""

from pathlib import Path

from absl import flags

from extract.audio import remote
from extract.errors import InputError
from extract.manifest import read_manifest
from extract.manifests.duplicates import crossing, same_audio
from extract.pipeline.sources import CHECKS, check_root, compare, locate
from extract.shell import run
from extract.storage.check import Report, verify
from extract.store import Store, find_layers, open_store

flags.DEFINE_string("store", None, "Directory of the store.")
flags.DEFINE_string(
    "audio_root",
    None,
    "Compare the store with the files below this directory, or address as in extract.run.",
)
flags.DEFINE_string("manifest", None, "manifest.csv: name the same audio in several splits.")
flags.DEFINE_enum(
    "check",
    "stat",
    CHECKS,
    "With --audio_root: compare sizes and times, or the hash of every file.",
)
FLAGS = flags.FLAGS
NAMED = 5  # before the rest is only counted


def main() -> int:
    if FLAGS.store is None:
        raise InputError("--store is missing; see --help")
    layers = find_layers(Path(FLAGS.store))
    paths = [str(Path(FLAGS.store) / layer) for layer in layers] or [FLAGS.store]
    return max([_verify(path) for path in paths])


def _verify(path: str) -> int:
    """Check one store and say what was found; the exit code."""
    report = verify(path)
    if report.problems:
        more = (
            f" (and {len(report.problems) - 1} more problems)" if len(report.problems) > 1 else ""
        )
        raise InputError(f"{report.problems[0]}{more}; delete the store and extract it again")
    print(_summary(path, report))
    for remark in report.remarks:
        print(f"{path}: {remark}")
    store = open_store(path)
    if FLAGS.manifest is not None:
        _print_duplicates(store)
    return _compare_files(store) if FLAGS.audio_root is not None else 0


def _summary(path: str, report: Report) -> str:
    state = "incomplete: run the same extract.run again" if report.pending else "complete"
    sums = (
        f"{report.checksums} checksums agree" if report.checksums else "checksums not recorded yet"
    )
    return (
        f"{path}: {report.done} clips done and finite, {report.failed} failed with a "
        f"reason, {report.pending} pending; {sums}; {state}"
    )


def _print_duplicates(store: Store) -> None:
    manifest = read_manifest(FLAGS.manifest).used()
    if not store.audio_hashes:
        print(f"{store.path}: holds no hashes of audio: the same audio cannot be found by it")
        return
    found = crossing(manifest, same_audio(manifest, store.audio_hashes))
    for rows in found:
        named = ", ".join(
            f"{manifest.clip_ids[row]!r} ({manifest.splits[row]})" for row in rows[:NAMED]
        )
        print(f"{store.path}: the same audio crosses splits: {named}")
    if not found:
        print(f"{store.path}: no audio is in two splits")


def _compare_files(store: Store) -> int:
    """Say which files have changed or are gone; the exit code."""
    root = remote.named(FLAGS.audio_root)
    check_root(root)
    if "source" not in store.audio or store.paths is None:
        raise InputError(
            f"{store.path}: was made before sizes and times of files were kept, or from no audio; "
            "it cannot be compared with --audio_root"
        )
    sources = locate(root, store.paths)
    found = compare(store.status, store.audio, sources, FLAGS.check)
    for rows, what in (
        (
            found.changed,
            "clips' files have changed since they were extracted (the same extract.run "
            "extracts them again)",
        ),
        (
            found.unread,
            "clips failed before their file was read, and it is there (the same extract.run tries "
            "them again)",
        ),
        (found.gone, "clips' files are not there any more"),
    ):
        if rows:
            named = ", ".join(repr(store.clip_ids[row]) for row in rows[:NAMED])
            print(f"{store.path}: {len(rows)} {what}: {named}{', …' if len(rows) > NAMED else ''}")
    if found.unknown:
        print(f"{store.path}: of {found.unknown} clips no size and time were kept")
    differ = bool(found.changed or found.unread or found.gone)
    if not differ:
        print(f"{store.path}: the files below {FLAGS.audio_root} are those it was made from")
    return int(differ)


if __name__ == "__main__":
    run(main)
