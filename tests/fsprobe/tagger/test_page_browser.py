"""The tagger's page in headless Chromium: clean, and its clips play."""

import numpy as np
import pytest

from fsprobe.pages.write import write
from fsprobe.tagger.outputs import Place
from fsprobe.tagger.report import page, relative_url
from fsprobe.tagger.training import TrainConfig, train
from tests.fsprobe.tagger.test_training import clips
from tests.support.browser import BROWSER, Browser, visit
from tests.support.fake_tagger import HOSTILE
from tests.support.plain_fit import fit_heads

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH"),
]


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


@pytest.mark.parametrize("width", [400, 1400])
def test_page_is_clean_and_plays(browser, tmp_path, width):
    soundfile = pytest.importorskip("soundfile")
    audio = tmp_path / 'mu#si%c "x"'
    audio.mkdir()
    soundfile.write(audio / "a b&c.ogg", np.zeros(16_000, np.float32), 16_000)
    labelled = clips(90)._replace(tags=HOSTILE[:4])
    config = TrainConfig()
    rows = train(labelled, fit_heads, config)
    places = {clip: Place("a b&c.ogg", 0.25, 0.5) for clip in labelled.clip_ids}
    out = tmp_path / "page"
    write(page(rows, labelled, config, "x", places, relative_url(audio, out)), out)
    evaluate, _, complaints = visit(browser, out / "report.html", width)
    assert evaluate("document.documentElement.scrollWidth") <= width and complaints == []
    assert evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert evaluate("document.querySelectorAll('h3').length") == 4
    played = evaluate(
        "new Promise(done => { const a = document.querySelector('audio');"
        " a.muted = true; a.onerror = () => done('error');"
        " a.onloadeddata = () => done(a.duration); a.load(); })"
    )
    assert abs(played - 1.0) < 0.05
