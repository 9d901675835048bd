"""What the tests of fsprobe share: its commands, without a start of Python and JAX for each."""

import os
from collections.abc import Iterator

import pytest

from tests.support.commands import Commands

# what the entry modules import; they themselves define flags, so each command imports its own
IMPORTED = (
    "extract.word_vectors.sources",
    "fsprobe.flags",
    "fsprobe.listening.exchange",
    "fsprobe.listening.pool",
    "fsprobe.listening.queries",
    "fsprobe.listening.strategies",
    "fsprobe.pages.write",
    "fsprobe.reporting.grid_table",
    "fsprobe.reporting.page",
    "fsprobe.study.execute",
    "fsprobe.tagger.audio_files.extraction",
    "fsprobe.tagger.audio_files.file_tags",
    "fsprobe.tagger.changes",
    "fsprobe.tagger.on_cluster",
    "fsprobe.tagger.report",
    "fsprobe.tagger.summary",
    "fsprobe.tagger.unlabelled",
)


@pytest.fixture(scope="session")
def commands(tmp_path_factory) -> Iterator[Commands]:
    cache = str(tmp_path_factory.getbasetemp() / "jax-cache")
    kept = {"JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", cache)}
    with Commands(*IMPORTED, **kept) as served:
        yield served
