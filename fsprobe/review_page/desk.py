"""What the review page shows and takes: clips to ask about, their scores, judgements, heads."""

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest
from fsprobe.listening import pool as pools
from fsprobe.listening import ranking
from fsprobe.listening.exchange import explicit, merged
from fsprobe.listening.judgements import VALUES, Current, Judgements, New, check_tag
from fsprobe.listening.pool import Pool
from fsprobe.listening.queries import head_of_text
from fsprobe.listening.refit import refit
from fsprobe.listening.strategies import suggest
from fsprobe.tagger.outputs import Place, clip_places
from fsprobe.tagger.tagger import Tagger

MOST = 200  # clips in one answer
_SHOWN_TO_ANOTHER = 600.0  # seconds that a question is kept from other windows


class Scores(NamedTuple):
    """What heads say, by tag. now, before: float32 `[clip]`, of this fit and of the one before it.
    verdicts: of the tags of `now`, in words.
    """

    now: Mapping[str, np.ndarray]
    before: Mapping[str, np.ndarray]
    verdicts: Mapping[str, str]


@dataclass(eq=False)
class Desk:
    """One labelling session, used by several threads. by: who judges. tags: to ask about. words:
    word vectors of the tags, by extract.words, by which clips are found from a text.
    """

    manifest: Manifest
    pool: Pool
    judgements: Judgements
    tags: list[str]
    by: str
    seed: int = 0
    words: Path | None = None
    scores: Scores = field(default_factory=lambda: Scores({}, {}, {}))
    fits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    fitting: threading.Lock = field(default_factory=threading.Lock)
    searching: threading.Lock = field(default_factory=threading.Lock)
    shown: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.place = {clip: row for row, clip in enumerate(self.pool.clip_ids)}
        self.places: dict[str, Place] = clip_places(self.manifest)
        self.directions = pools.directions_of(self.pool)
        self.standard = ranking.standard_of(self.pool.parts, self.pool.rows)
        self.full = explicit(self.manifest)
        self.heard = pools.heard(self.manifest)
        self.listed = {clip: row for row, clip in enumerate(self.manifest.clip_ids)}
        self.known: tuple[list[str], np.ndarray] = ([], np.empty((0, 0), bool))
        self.counts = Counter(
            (tag, value)
            for value, column in (("yes", self.full.tags), ("no", self.full.not_tags or ()))
            for tags in column
            for tag in tags
        )

    def use(self, tagger: Tagger) -> None:
        """Score the clips with a tagger; the scores so far become those before."""
        now = dict(zip(tagger.tags, pools.probabilities(self.pool, tagger).T, strict=True))
        verdicts = {
            tag: str(tagger.training.get(tag, {}).get("verdict", "")) for tag in tagger.tags
        }
        with self.lock:
            self.scores = Scores(now, self.scores.now, verdicts)
            self._add_tags(tagger.tags)

    def _add_tags(self, tags: Iterable[str]) -> None:
        self.tags += [tag for tag in dict.fromkeys(tags) if tag not in self.tags]

    def state(self) -> dict[str, Any]:
        """Tags with their counts, and how far the work is."""
        current = self.judgements.current()
        counts = self._counts(current)
        with self.lock:
            self._add_tags(tag for _, tag in current)
            tags, scores = list(self.tags), self.scores
        return {
            "tags": [
                {
                    "tag": tag,
                    **{value: counts[tag, value] for value in VALUES},
                    "verdict": scores.verdicts.get(tag, "no head yet: needs a yes and a no"),
                }
                for tag in tags
            ],
            "judged": len(current),
            "clips": len(self.pool.clip_ids),
            "clips_judged": len({clip for clip, _ in current}),
            "fits": self.fits,
            "by": self.by,
        }

    def _counts(self, current: Current) -> Counter[tuple[str, str]]:
        """(tag, value) → how many clips: that have the tag, have not, and could not be told."""
        counts = self.counts.copy()
        for (clip, tag), value in current.items():
            if before := self._said(clip).get(tag):
                counts[tag, before] -= 1
            counts[tag, value] += 1
        return counts

    def _said(self, clip: str) -> dict[str, str]:
        """tag → yes or no, as heads are fitted to a clip by the manifest alone."""
        if clip not in self.listed:
            return {}
        row, absent = self.listed[clip], self.full.not_tags or ()
        return dict.fromkeys(absent[row], "no") | dict.fromkeys(self.full.tags[row], "yes")

    def questions(self, tag: str, strategy: str, count: int, window: str) -> list[dict[str, Any]]:
        """Questions: of one tag, or of all where it is empty. window: who asks; what another
        window was given lately is left out.
        """
        current = self.judgements.current()
        with self.lock:
            tags, scores = list(self.tags), self.scores
        if tag and tag not in tags:
            raise InputError(f"tag {tag!r:.60} is not among the tags; add it first")
        wanted = [tag] if tag else tags
        p = np.full((len(self.pool.clip_ids), len(wanted)), np.nan, np.float32)
        for column, name in enumerate(wanted):
            if name in scores.now:
                p[:, column] = scores.now[name]
        listed = self.known
        if listed[0] != wanted:
            listed = self.known = (wanted, pools.listed_labels(self.pool, self.manifest, wanted))
        asked_or_judged = [*current, *self._asked_elsewhere(window)]
        known = pools.with_judged(listed[1], self.pool, asked_or_judged, wanted)
        rng = np.random.default_rng((self.seed, len(current)))
        found = suggest(strategy, p, known, count, rng, self.directions)
        asked = [
            {
                "clip": self.pool.clip_ids[one.place],
                "tag": wanted[one.tag],
                "score": None if math.isnan(one.score) else one.score,
                "reason": one.reason,
            }
            for one in found
        ]
        shown = (window, time.monotonic())
        with self.lock:
            self.shown |= {(str(one["clip"]), str(one["tag"])): shown for one in asked}
        return asked

    def _asked_elsewhere(self, window: str) -> list[tuple[str, str]]:
        """(clip, tag) that other windows were given lately."""
        now = time.monotonic()
        with self.lock:
            self.shown = {
                question: (holder, since)
                for question, (holder, since) in self.shown.items()
                if now - since < _SHOWN_TO_ANOTHER
            }
            return [question for question, (holder, _) in self.shown.items() if holder != window]

    def clip(self, clip: str) -> dict[str, Any]:
        """A clip's sound, its scores and what was said of it."""
        row = self._row(clip)
        current = self.judgements.current()
        place = self.places.get(clip)
        with self.lock:
            tags, scores = list(self.tags), self.scores
        told = clip in self.listed and self.heard[self.listed[clip]]
        said = self._said(clip) if told else {}
        rows = [
            {
                "tag": tag,
                "score": float(scores.now[tag][row]) if tag in scores.now else None,
                "before": float(scores.before[tag][row]) if tag in scores.before else None,
                "value": current.get((clip, tag), said.get(tag)),
            }
            for tag in tags
        ]
        return {"clip": clip, "sound": asdict(place) if place else None, "scores": rows}

    def find(self, text: str, like: str, count: int = 30) -> list[dict[str, Any]]:
        """Clips that sound most like a clip, or as the text says by `words`; without them, those
        whose id or path holds it.
        """
        if like:
            query = [rows[[self._row(like)]] for rows in self.pool.rows]
            score = ranking.cosine_to(self.pool.parts, self.standard, query)
            return [hit for hit in self._best(score, count + 1) if hit["clip"] != like][:count]
        if self.words and text.strip():
            return self._best(self._logit_of(self.words, text.strip()), count)
        folded, paths = text.casefold(), {clip: at.path for clip, at in self.places.items()}
        named = (
            {"clip": clip, "score": None}
            for clip in self.pool.clip_ids
            if folded in clip.casefold() or folded in paths.get(clip, "").casefold()
        )
        return list(itertools.islice(named, count))

    def _best(self, score: ranking.Score, count: int) -> list[dict[str, Any]]:
        found = ranking.best(score, self.pool.parts, self.pool.rows, count, "searching")
        return [
            {"clip": self.pool.clip_ids[place], "score": score}
            for place, score in zip(found.place.tolist(), found.score.tolist(), strict=True)
        ]

    def _logit_of(self, words: Path, text: str) -> ranking.Score:
        """As fsprobe.search ranks by a text; what was judged so far are labels, too."""
        check_tag(text)
        labels = merged(self.manifest, self.judgements.current())
        with self.searching:  # each may start a process
            head, _ = head_of_text(text, words, labels, self.pool.parts)
        return ranking.logit_of(self.pool.parts, head)

    def _row(self, clip: str) -> int:
        if clip not in self.place:
            raise InputError(f"clip {clip!r:.60} is not among the clips")
        return self.place[clip]

    def add_tag(self, tag: str) -> None:
        """Raises InputError on a name that a manifest cannot hold."""
        check_tag(tag)
        with self.lock:
            self._add_tags([tag])

    def judge(self, entries: Sequence[New]) -> list[int]:
        """Their rows, on the disk. Raises InputError, and keeps none, if one cannot be kept."""
        for entry in entries:
            self._row(entry.clip)
        found = self.judgements.add(entries, self.by)
        with self.lock:
            self._add_tags(entry.tag for entry in entries)
        return found

    def withdraw(self, number: int | None) -> dict[str, Any] | None:
        """Take back a judgement, or the last one; which it was."""
        last = self.judgements.latest(self.by) if number is None else None
        number = last.id if last else number
        row = None if number is None else self.judgements.withdraw(number)
        return row._asdict() if row else None

    def withdraw_sent(self, entry: New) -> None:
        """Take back a judgement that may not have arrived. Raises InputError on an unknown clip."""
        self._row(entry.clip)
        self.judgements.withdraw_sent(entry, self.by)

    def fit_again(self) -> dict[str, str]:
        """Fit heads to all labels; tag → verdict. Raises InputError where no tag has a yes and a
        no, or a fit is under way.
        """
        if not self.fitting.acquire(blocking=False):
            raise InputError("a fit is under way; wait for it")
        try:
            with self.lock:
                tags = list(self.tags)
            tagger = refit(self.manifest, self.pool.parts, self.judgements.current(), tags)
            self.use(tagger)
            self.fits += 1
            return dict(self.scores.verdicts)
        finally:
            self.fitting.release()
