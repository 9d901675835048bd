"""What tests of extract's commands share."""

from collections.abc import Iterator

import pytest

from tests.support.commands import Commands

IMPORTED = (
    "librosa.feature",
    "extract.embeddings.logmel",
    "extract.embeddings.musicnn",
    "extract.embeddings.published",
    "extract.manifests.duplicates",
    "extract.pipeline.extract_clips",
    "extract.storage.check",
    "extract.word_vectors.sources",
)


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    with Commands(*IMPORTED) as served:
        yield served
