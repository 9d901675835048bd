"""Reading a results directory into SweepResults, and checking that its files belong together."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import InputError
from fsprobe.config import GridConfig, from_json
from fsprobe.features import COMBINED
from fsprobe.reporting.statistics import mean_of
from fsprobe.reporting.sweep_results import SweepResults
from fsprobe.study import results
from fsprobe.study.results import COOCCURRENCE, MAP, NORMS, SOLVER, TAGS, UNSEEN, ZERO_SHOT
from fsprobe.study.tables import (
    EpisodeRow,
    MapRow,
    PairRow,
    ProbeKey,
    ProbeRow,
    SolverRow,
    TagCountRow,
    TagRow,
    UnseenRow,
    ZeroShotRow,
    read_rows,
)

_GRID = ("n_way", "k_shot", "num_seeds", "seed", "tags", "on_scarce")  # what a report needs


def read_sweep(path: str | Path, label: str) -> SweepResults:
    """Read and check a results directory.

    Raises InputError on a missing file or column, a malformed value, no rows, a row that run.json's
    configuration does not ask for, a repeated row, or files that contradict each other.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such directory; give a results directory of fsprobe.sweep")
    asked = _asked(path, label)
    for name in (results.PROBES, results.PER_TAG, SOLVER, ZERO_SHOT, MAP):
        _check_whole(path / name)
    probes = _probes(path, asked)
    counts = ((row.tag, row) for row in _optional(path / TAGS, TagCountRow))
    absent = [name for name in (TAGS, COOCCURRENCE, NORMS) if not (path / name).exists()]
    return replace(
        asked,
        probes=probes,
        tags=_tags(path, probes),
        episodes=_episodes(path),
        tag_counts=_unique(path / TAGS, counts, "tag"),
        cooccurrence=_cooccurrence(path),
        solver_rows={
            row.key: row for row in _optional(path / SOLVER, SolverRow) if row.key in probes
        },
        norms=_norms(path, asked),
        absent=tuple(absent),
        unseen=_unseen(path),
        zero_shot=_by_probe(_optional(path / ZERO_SHOT, ZeroShotRow), probes),
        map=_by_probe(_optional(path / MAP, MapRow), probes),
    )


def _check_whole(path: Path) -> None:
    """Raise InputError on a last line without an end: a crash may have cut its number short."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        raise InputError(
            f"{path}: its last line is not whole; run the sweep's command again, which mends it"
        )


def _asked(path: Path, label: str) -> SweepResults:
    """What run.json says that was asked for. Raises InputError where it describes configuration,
    data or versions as no sweep does.
    """
    run = results.read_run(path)
    asked = SweepResults(label, run, _grid(path, run))
    try:
        _ = asked.dataset, asked.clips, asked.parts, asked.words, list(run.get("devices") or ())
        _ = dict(run.get("versions") or {}).items(), float(run.get("wall_time_s") or 0)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path / results.RUN}: not as fsprobe.sweep writes it ({error})"
        ) from None
    return asked


def labels(paths: Sequence[str]) -> list[str]:
    """A name per results directory: its last part, with as many parents as make it unique."""
    parts = [Path(path).resolve().parts for path in paths]
    for i, mine in enumerate(parts):
        if mine in parts[:i]:
            raise InputError(f"--results={paths[i]}: given twice")
    names = []
    for mine in parts:
        others = [other for other in parts if other != mine]
        depth = next(
            d for d in range(1, len(mine) + 1) if all(other[-d:] != mine[-d:] for other in others)
        )
        names.append("/".join(mine[-depth:]))
    return names


def _grid(path: Path, run: Mapping[str, Any]) -> GridConfig:
    """The grid of run.json. Raises InputError where the configuration lacks something a report
    needs.
    """
    where = path / results.RUN
    try:
        configuration = run["configuration"]
        texts = [
            configuration["solver"]["name"],
            configuration["manifest_sha256"],
            *configuration["embeddings"],
            *dict(configuration["stores"]).values(),
        ]
        if odd := [text for text in texts if not isinstance(text, str)]:
            raise TypeError(f"{odd[0]!r} where text belongs")
        if not configuration["embeddings"]:
            raise TypeError("no embeddings")
        grid = configuration["grid"]
        if missing := [name for name in _GRID if name not in grid]:
            raise KeyError(missing[0])
        return from_json(GridConfig, grid)
    except KeyError as error:
        raise InputError(
            f"{where}: {error.args[0]!r} is missing; is it of fsprobe.sweep?"
        ) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{where}: configuration not as fsprobe.sweep writes it ({error})"
        ) from None


def _probes(path: Path, asked: SweepResults) -> dict[ProbeKey, ProbeRow]:
    """The rows of probes.csv, each one that was asked for."""
    where = path / results.PROBES
    rows = results.read_probes(path)
    if not rows:
        raise InputError(
            f"{where}: no rows: no probe has finished yet; run the sweep's command again"
        )
    wanted = {key for name in asked.embeddings for key in asked.keys(name)}
    for row in rows:
        if row.key not in wanted:
            raise InputError(
                f"{where}: the probe {_name(row.key)} is not of the configuration in "
                f"{results.RUN}: results of several runs are mixed; sweep each into a directory "
                "of its own"
            )
        for metric in ("mAP", "roc_auc", "chance_mAP"):
            _check_share(where, _name(row.key), metric, getattr(row, metric))
    return _unique(where, ((row.key, row) for row in rows), "probe")


def _tags(path: Path, probes: Mapping[ProbeKey, ProbeRow]) -> dict[ProbeKey, tuple[TagRow, ...]]:
    where = path / results.PER_TAG
    grouped: defaultdict[ProbeKey, list[TagRow]] = defaultdict(list)
    positives: dict[str, int] = {}
    for row in results.read_per_tag(path):
        grouped[row.key].append(row)
        for metric in ("average_precision", "roc_auc"):
            _check_share(where, f"{_name(row.key)}, tag {row.tag!r}", metric, getattr(row, metric))
        if positives.setdefault(row.tag, row.test_positives) != row.test_positives:
            raise InputError(
                f"{where}: tag {row.tag!r} has {positives[row.tag]} and {row.test_positives} test "
                "positives: results on several test sets are mixed"
            )
    for key, probe in probes.items():
        rows = grouped[key]
        if len({row.tag for row in rows}) != len(rows) or len(rows) != key.n_way:
            raise InputError(
                f"{where}: the probe {_name(key)} has {len(rows)} rows, not one for each of "
                f"{key.n_way} tags; sweep again into an empty directory"
            )
        mean = mean_of([row.average_precision for row in rows])
        if math.isnan(mean) != math.isnan(probe.mAP) or abs(mean - probe.mAP) > 1e-4:
            raise InputError(
                f"{where}: the tags of {_name(key)} average to {mean:.5f}, {results.PROBES} has "
                f"{probe.mAP:.5f}: files of several runs are mixed"
            )
    return {key: tuple(grouped[key]) for key in probes}


def _episodes(path: Path) -> dict[int, dict[int, tuple[str, tuple[str, ...]]]]:
    """episodes.csv; empty where it is not there."""
    clips: defaultdict[tuple[int, int, str], dict[int, str]] = defaultdict(dict)
    for seed, position, tag, shot, clip in _optional(path / results.EPISODES, EpisodeRow):
        clips[seed, position, tag] |= {} if shot is None else {shot: clip}
    found: defaultdict[int, dict[int, tuple[str, tuple[str, ...]]]] = defaultdict(dict)
    for (seed, position, tag), shots in clips.items():
        found[seed][position] = (tag, tuple(clip for _, clip in sorted(shots.items())))
    return dict(found)


def _unseen(path: Path) -> dict[int, dict[str, str]]:
    """Seed → tag → its near synonym among the seen; empty without words."""
    found: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for row in _optional(path / UNSEEN, UnseenRow):
        found[row.seed][row.tag] = row.near_synonym
    return dict(found)


def _by_probe(rows: Iterable[Any], probes: Collection[ProbeKey]) -> dict[ProbeKey, list[Any]]:
    """The rows of the finished probes: what a kill left of others is no result."""
    found: defaultdict[ProbeKey, list[Any]] = defaultdict(list)
    for row in rows:
        if row.key in probes:
            found[row.key].append(row)
    return dict(found)


def _cooccurrence(path: Path) -> dict[tuple[str, str], int]:
    return {
        pair: row.clips
        for row in _optional(path / COOCCURRENCE, PairRow)
        for pair in ((row.tag_a, row.tag_b), (row.tag_b, row.tag_a))
    }


def _norms(path: Path, asked: SweepResults) -> dict[str, np.ndarray]:
    """Embedding → `[probe, dim]`, for the embeddings that have a file."""
    found = {}
    for embedding in asked.embeddings:
        file = path / NORMS / f"{embedding}.npy"
        if not file.exists():
            continue
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(f"{file}: not a readable .npy array ({error})") from None
        probes = len(asked.keys(embedding))
        if array.ndim != 2 or array.shape[0] != probes or array.dtype.kind != "f":
            raise InputError(
                f"{file}: {array.dtype} {array.shape} where float32 ({probes}, dim) is expected: "
                "it is of another grid"
            )
        width = sum(width for _, width in asked.parts)
        if embedding == COMBINED and asked.parts and width != array.shape[1]:
            raise InputError(
                f"{file}: {array.shape[1]} features, but the parts of combined in {results.RUN} "
                f"have {width}"
            )
        found[embedding] = array
    return found


def _optional(path: Path, kind: Any) -> list[Any]:
    """The rows of a file that may be absent."""
    return read_rows(path, kind) if path.exists() else []


def _unique(path: Path, items: Iterable[tuple[Any, Any]], what: str) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in items:
        if key in found:
            name = _name(key) if isinstance(key, ProbeKey) else repr(key)
            raise InputError(
                f"{path}: the {what} {name} stands twice; sweep again into an empty directory"
            )
        found[key] = value
    return found


def _check_share(path: Path, where: str, metric: str, value: float) -> None:
    if not math.isnan(value) and not 0 <= value <= 1:
        raise InputError(f"{path}: {where}: {metric} {value} is not between 0 and 1")


def _name(key: ProbeKey) -> str:
    return f"{key.embedding}, {key.solver}, N={key.n_way}, K={key.k_shot}, seed {key.seed}"
