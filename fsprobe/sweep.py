"""Few-shot probes over a grid: every embedding × n_way × k_shot × seed, trained together, tested,
recorded.

  python -m fsprobe.sweep --manifest=manifest.csv --store=vggish=stores/vggish \\
      --store=passt=stores/passt --n_way=5 --n_way=10 --k_shot=1 --k_shot=5 --k_shot=full \\
      --num_seeds=10 --out=results/mine

or, with the flags in a file, `python -m fsprobe.sweep --flagfile=launch/paper.cfg`. Repeat --store,
--embedding, --n_way and --k_shot to give several values. Writes probes.csv, per_tag.csv,
episodes.csv, run.json and what else fsprobe.report reads to --out, and prints a table per
embedding. Rerunning the same command finishes what is missing. The defaults are the paper's.

With --words=DIR of extract.words each seed hides a fifth of the tags and draws its N among them:

  python -m fsprobe.sweep --manifest=manifest.csv --store=passt=stores/passt --words=words/minilm \\
      --tags=all --n_way=10 --k_shot=0 --k_shot=1 --k_shot=5 --solver=lbfgs \\
      --prior=none --prior=words --prior=shuffled --out=results/words

K = 0 is by a tag's words alone (--zero_shot=eszsl|conse|triplet|triplet_balanced); a prior pulls
few-shot heads to the head that the words give, and shuffled words are the control. With
--test_manifest and --test_store, K = 0 is learnt on one corpus and tested on another.
"""

import sys
from typing import Any

from absl import flags

from extract.errors import InputError
from extract.shell import run
from fsprobe import features, shell
from fsprobe.batch import processes
from fsprobe.config import (
    FULL,
    GridConfig,
    KShot,
    SolverConfig,
    SweepConfig,
    shot_order,
)
from fsprobe.flags import define, parse_l2, parse_stores, read
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.heads.words.registry import ZERO_SHOT
from fsprobe.reporting.grid_table import print_tables
from fsprobe.study.execute import OutOfTime, sweep
from fsprobe.words.config import WordsConfig

FLAGS = flags.FLAGS

define(SweepConfig)
define(GridConfig)
define(SolverConfig, name={solver.name: solver.about for solver in SOLVERS.values()})
define(WordsConfig, zero_shot={way.name: way.about for way in ZERO_SHOT.values()})
flags.DEFINE_string(
    "coordinator",
    "",
    "HOST:PORT of the first process, to sweep with several: start the same command on every host "
    "with --num_processes and its own --process_id. The first one writes --out.",
)
flags.DEFINE_integer(
    "num_processes", 1, "With --coordinator: how many processes there are.", lower_bound=1
)
flags.DEFINE_integer("process_id", 0, "With --coordinator: this process, from 0.", lower_bound=0)
flags.DEFINE_bool(
    "distributed", False, "Find the other processes by the environment: under Slurm, on a TPU pod."
)


def config_from_flags() -> SweepConfig:
    """The flags as a SweepConfig. Raises InputError on what a flag's type does not catch."""
    grid = read(
        GridConfig,
        {
            "n_way": lambda values: tuple(sorted(set(values))),
            "k_shot": lambda texts: tuple(sorted(set(map(_parse_shot, texts)), key=shot_order)),
        },
    )
    words = read(
        WordsConfig,
        {"test_stores": lambda texts: tuple(parse_stores(texts, "test_store").items())},
    )
    return read(
        SweepConfig,
        {"stores": lambda texts: tuple(parse_stores(texts).items()), "embeddings": _known},
        grid=grid,
        solver=read(SolverConfig, {"l2": parse_l2}),
        words=words,
    )


def _known(embeddings: list[str]) -> tuple[str, ...]:
    """Raises InputError on one that is no store's name, A+B or `combined`."""
    names = list(parse_stores(FLAGS.store))
    for embedding in embeddings:
        features.stores_of(names, embedding)
    return tuple(embeddings)


def _own_flags() -> dict[str, Any]:
    """What this module's flags were given, for run.json."""
    return {flag.name: flag.value for flag in FLAGS.flags_by_module_dict().get(sys.argv[0], [])}


def _parse_shot(text: str) -> KShot:
    if text == FULL:
        return FULL
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"--k_shot={text}: use a whole number (0: by --words alone) or `full`")
    return int(text)


def _check_processes() -> None:
    """Raise InputError on flags that do not agree on how the processes find each other."""
    if FLAGS.process_id >= FLAGS.num_processes:
        raise InputError(
            f"--process_id={FLAGS.process_id}: it must be below "
            f"--num_processes={FLAGS.num_processes}"
        )
    if FLAGS.num_processes > 1 and not FLAGS.coordinator:
        raise InputError(
            f"--num_processes={FLAGS.num_processes}: --coordinator=HOST:PORT must say where they "
            "meet"
        )
    if FLAGS.distributed and FLAGS.coordinator:
        raise InputError("--distributed finds the coordinator by itself; leave out --coordinator")


def main() -> int:
    config = config_from_flags()
    _check_processes()
    try:
        with (
            shell.computing(),
            processes.joined(
                FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id, FLAGS.distributed
            ),
        ):
            shell.require_devices()
            processes.require_devices_alike()
            rows = sweep(config, _own_flags())
            leads = processes.leads()
    except OutOfTime as error:
        return error.exit_code
    if leads:
        print_tables(rows, config.embeddings, config.grid.num_seeds)
        print(f"\n{len(rows)} probes in {config.out}")
    return 0


if __name__ == "__main__":
    run(main)
