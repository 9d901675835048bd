"""Check a store from end to end.

    python -m extract.verify --store=stores/logmel

Reads everything: formats, shapes and ids, every status, the values of every finished clip (no NaN,
no Inf), the frames' offsets, failures.csv against the statuses, and the checksums of a complete
store. A store that is still being filled is fine as far as it goes. Exit code 0: no problem found;
2: the first problem, and how many there are.
"""

from absl import flags

from extract.errors import InputError
from extract.shell import run
from extract.storage.check import verify

flags.DEFINE_string("store", None, "Directory of the store.")
FLAGS = flags.FLAGS


def main() -> int:
    if FLAGS.store is None:
        raise InputError("--store is missing; see --help")
    report = verify(FLAGS.store)
    if report.problems:
        more = (
            f" (and {len(report.problems) - 1} more problems)" if len(report.problems) > 1 else ""
        )
        raise InputError(f"{report.problems[0]}{more}; delete the store and extract it again")
    state = "incomplete: run the same extract.run again" if report.pending else "complete"
    sums = (
        f"{report.checksums} checksums agree" if report.checksums else "checksums not recorded yet"
    )
    print(
        f"{FLAGS.store}: {report.done} clips done and finite, {report.failed} failed with a "
        f"reason, "
        f"{report.pending} pending; {sums}; {state}"
    )
    return 0


if __name__ == "__main__":
    run(main)
