"""Labels of a manifest's clips: the tags to probe, and what is known of each clip."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from extract.errors import InputError
from extract.files import read_text
from extract.manifest import Manifest, rank_tags


def tag_pool(manifest: Manifest, tags: str) -> tuple[str, ...]:
    """The tags that episodes are drawn from, most frequent first (counted over every clip of the
    manifest).

    tags: `topN` or `top:N`, `tail` (all below the 50 most frequent), `all`, or `file:PATH` (one tag
    a line). Raises InputError on anything else, an unknown tag or an empty pool.
    """
    ranked = [tag for tag, _ in rank_tags(manifest)]
    if tags == "all":
        pool = ranked
    elif tags == "tail":
        pool = ranked[50:]
    elif tags.startswith("file:"):
        pool = _tags_of_file(Path(tags.removeprefix("file:")), ranked)
    elif (top := re.fullmatch(r"top:?(\d+)", tags)) and int(top[1]) > 0:
        if int(top[1]) > len(ranked) and tags != "top50":
            raise InputError(f"`tags={tags}`: the manifest has only {len(ranked)} tags")
        pool = ranked[: int(top[1])]
    else:
        raise InputError(f"`tags={tags}`: use top50, top:N, tail, all or file:PATH")
    if not pool:
        raise InputError(f"`tags={tags}`: no tag left; the manifest has {len(ranked)} tags")
    return tuple(pool)


def tag_labels(manifest: Manifest, pool: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """(positive, negative), bool `[clip, tag]`: is the clip known to carry the tag, is it known not
    to. negative is None where the manifest has no `not_tags`: then whatever is not positive is
    negative.
    """
    return (
        _listed(manifest.tags, pool),
        None if manifest.not_tags is None else _listed(manifest.not_tags, pool),
    )


def _listed(tags: Sequence[Sequence[str]], pool: Sequence[str]) -> np.ndarray:
    """bool `[clip, tag]`: is the tag of the pool in the clip's list."""
    column = {tag: i for i, tag in enumerate(pool)}
    listed = np.zeros((len(tags), len(pool)), bool)
    for row, names in enumerate(tags):
        listed[row, [column[name] for name in names if name in column]] = True
    return listed


def track_codes(manifest: Manifest) -> np.ndarray | None:
    """int `[clip]`, equal for clips of one track, or of one group where the manifest has no tracks.
    A clip without either is a track of its own. None where the manifest has neither column.
    """
    names = manifest.tracks or manifest.groups
    if not names:
        return None
    codes: dict[str, int] = {}
    return np.array(
        [codes.setdefault(name or f"\0{row}", len(codes)) for row, name in enumerate(names)]
    )


def _tags_of_file(path: Path, known: Sequence[str]) -> list[str]:
    try:
        lines = read_text(path).splitlines()
    except InputError as error:
        raise InputError(f"`tags=file:{path}`: {error}") from None
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(
            f"`tags=file:{path}`: no such file; give a text file with one tag a line"
        ) from None
    wanted = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    for tag in wanted:
        if tag not in known:
            raise InputError(f"{path}: tag {tag!r} is not in the manifest")
    return sorted(wanted, key=known.index)
