"""Tables, figures and statistics of what fsprobe.sweep found, as one page.

  python -m fsprobe.report --results=results/mine
  python -m fsprobe.report --results=results/tail --results=results/top50 --out=results/long_tail

Writes report.md, report.html (self-contained) and figures/*.png and *.svg to --out (default: the
first results directory). Sections appear when their rows are there; an unfinished sweep gives a
report that says what is missing. The same rows give the same files, byte for byte.
"""

from pathlib import Path

from absl import flags

from extract.errors import InputError
from extract.shell import run
from fsprobe.pages.blocks import Figure
from fsprobe.reporting.formatting import Style
from fsprobe.reporting.reading import labels, read_sweep

FLAGS = flags.FLAGS

flags.DEFINE_multi_string(
    "results", [], "A results directory of fsprobe.sweep. Repeatable: several are compared."
)
flags.DEFINE_string("out", None, "Directory to write to. Default: the first results directory.")
flags.DEFINE_bool(
    "each", True, "Of several folders, also a section for each; --noeach: what compares them alone."
)
flags.DEFINE_float(
    "half_width",
    Style.half_width,
    "mAP: the report counts the seeds for an interval of ± this.",
    lower_bound=1e-6,
)


def main() -> None:
    try:
        from fsprobe.pages.write import write
        from fsprobe.reporting.page import report
    except OSError as error:  # matplotlib finds no folder to write to
        raise InputError(f"{error}; set MPLCONFIGDIR to a folder that can be written") from None
    if not FLAGS.results:
        raise InputError("--results=DIR is required at least once; see --help")
    sweeps = [
        read_sweep(path, label)
        for path, label in zip(FLAGS.results, labels(FLAGS.results), strict=True)
    ]
    out = Path(FLAGS.out or FLAGS.results[0])
    blocks = report(sweeps, FLAGS.half_width, FLAGS.each)
    write(blocks, out)
    for sweep in sweeps:
        if lacking := sum(map(len, sweep.missing.values())):
            print(f"{sweep.label}: {lacking} probes are missing; the report says which")
    figures = sum(isinstance(block, Figure) for block in blocks)
    print(f"{out / 'report.html'}, {out / 'report.md'} and {figures} figures")


if __name__ == "__main__":
    run(main)
