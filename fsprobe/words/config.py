"""A sweep's settings of words."""

from dataclasses import dataclass

from extract.errors import InputError
from fsprobe.settings import FULL, KShot, require, require_each_once, setting

NONE, WORDS, SHUFFLED = "none", "words", "shuffled"  # what few-shot heads are pulled to
PRIORS = (NONE, WORDS, SHUFFLED)


@dataclass(frozen=True)
class WordsConfig:
    """What words do in a sweep, if `directory` is given: each seed draws its tags among those whose
    labels the map from features to words has not seen. zero_shot: names of
    `fsprobe.heads.words.registry`. prior: a row of each for every K of 1 or more. test_stores:
    (name, directory).
    """

    directory: str = setting(
        "",
        "DIR of extract.words: vectors of the tags. Each seed then hides a part of the tags, and "
        "draws its N among them.",
        flag="words",
        recorded=str | tuple[str, ...],  # hashes of the vectors and of the tags
    )
    seen: float = setting(0.8, "Share of the tags, with --words, whose labels a seed may learn of.")
    zero_shot: tuple[str, ...] = setting(
        ("eszsl",), "How words become heads where K is 0. Repeatable."
    )
    prior: tuple[str, ...] = setting(
        (NONE,),
        "What few-shot heads are pulled to: none, 0; words, the head that the tag's words give; "
        "shuffled, one of another tag's words, as a control. Repeatable.",
        choices=PRIORS,
    )
    test_manifest: str = setting(
        "",
        "manifest.csv of another corpus, to test K = 0 on: on the tags that --manifest lacks.",
    )
    test_stores: tuple[tuple[str, str], ...] = setting(
        (), "NAME=DIR: features of --test_manifest, a store for each --store.", flag="test_store"
    )

    def __post_init__(self) -> None:
        require(0 < self.seen < 1, "seen", self.seen, "a share of the tags is between 0 and 1")
        require_each_once(self, "zero_shot", "prior")
        for value in self.prior:
            require(value in PRIORS, "prior", value, f"use one of {', '.join(PRIORS)}")
        if not self.directory:
            for prior in self.prior:
                require(prior == NONE, "prior", prior, "it takes `words=DIR` of extract.words")
            require(
                not self.test_manifest,
                "test_manifest",
                self.test_manifest,
                "it takes `words=DIR` of extract.words",
            )
        if bool(self.test_manifest) != bool(self.test_stores):
            raise InputError("`test_manifest` and `test_store` belong together: give both")

    def variants(self, k_shot: KShot) -> list[tuple[str, str]]:
        """(zero_shot, prior) of each row that a cell and seed has; empty texts without words."""
        if not self.directory:
            return [("", "")]
        if k_shot == 0:
            vectors = [WORDS, *([SHUFFLED] if SHUFFLED in self.prior else [])]
            return [(method, prior) for method in self.zero_shot for prior in vectors]
        return [("", prior) for prior in ((NONE,) if k_shot == FULL else self.prior)]


NO_WORDS = WordsConfig()
