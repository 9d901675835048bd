"""What gives MagnaTagATune's clips away, so that models trained on its tags can be warned of."""

import pytest

from extract.datasets.magnatagatune import num_resembling
from extract.embeddings.musicnn.tags import TAGS
from extract.manifest import Manifest


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("f/american_bach_soloists-j_s_bach__cantatas_volume_v-01-gleichwie-30-59.mp3", 1),
        ("joram-moments_of_clarity-08-solipsism-59-88.wav", 1),
        ("album-01-intro-0-29.mp3", 1),
        ("album-01-intro-0-30.mp3", 0),
        ("02-29.mp3", 0),
        ("rock/1.ogg", 0),
    ],
)
def test_file_names(path: str, count: int) -> None:
    manifest = Manifest(("a", "b"), (path, "x.wav"), ("train",) * 2, ((), ()))
    assert num_resembling(manifest, TAGS["MTT"]) == count


@pytest.mark.parametrize(("share", "count"), [(26, 2), (25, 0)])
def test_tags(share: int, count: int) -> None:
    """Renamed files still carry the tags; a few common words prove nothing."""
    tags = TAGS["MTT"][:share]
    manifest = Manifest(("a", "b"), ("1.mp3", "2.mp3"), ("train",) * 2, (tags[:9], tags[9:]))
    assert num_resembling(manifest, TAGS["MTT"]) == count
