"""The words of a sweep with its corpora: the one it learns on, and the one it tests on."""

from collections.abc import Mapping

from extract.errors import InputError
from extract.manifest import Manifest, read_manifest
from extract.store import Store
from fsprobe import features
from fsprobe.config import SweepConfig
from fsprobe.heads.solvers.registry import SOLVERS, solver_of
from fsprobe.study.seen_tags import SeenTags, of_splits, seen_of_two, seen_tags
from fsprobe.words.config import NONE
from fsprobe.words.vectors import load_words


def words_of(
    config: SweepConfig, manifest: Manifest, stores: Mapping[str, Store]
) -> tuple[SeenTags | None, Manifest, dict[str, Store]]:
    """(which tags are seen, None without words; the manifest of all clips; the stores of the test
    clips, empty where they are those of all). Raises InputError on what does not fit together.
    """
    settings = config.words
    if not settings.directory:
        return None, manifest, {}
    solver = solver_of(config.solver)
    for prior in settings.prior:
        if prior != NONE and not solver.takes_priors:
            takes = "|".join(other.name for other in SOLVERS.values() if other.takes_priors)
            raise InputError(
                f"`prior={prior}`: `solver={config.solver.name}` with "
                f"`unlabelled={config.solver.unlabelled}` takes none; use `solver={takes}` with "
                "`unlabelled=none`"
            )
    words = load_words(settings.directory)
    if not settings.test_manifest:
        return seen_tags(manifest, config.grid.tags, words, settings.seen), manifest, {}
    second = read_manifest(settings.test_manifest)
    test_stores = features.open_stores(
        {name: path for name, path in settings.test_stores if name in stores}
    )
    _require_same_stores(stores, test_stores)
    features.require_clips(test_stores, of_splits(second, ("test",)))
    seen, both = seen_of_two(manifest, second, config.grid.tags, words)
    return seen, both, test_stores


def _require_same_stores(stores: Mapping[str, Store], others: Mapping[str, Store]) -> None:
    """Raise InputError unless the second corpus has the same embeddings."""
    for name, store in stores.items():
        if name not in others:
            raise InputError(f"`test_store`: none called {name!r}; give `test_store={name}=DIR`")
        for what in ("embedding", "dim"):
            ours, theirs = store.meta.get(what), others[name].meta.get(what)
            if ours != theirs:
                raise InputError(
                    f"`test_store={name}={others[name].path}`: its {what} is {theirs}, that of "
                    f"`store` {ours}; extract both corpora alike"
                )
