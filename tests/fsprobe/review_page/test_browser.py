"""The review page in headless Chromium: twenty clips by keys, with a reload and a kill between; and
what axe-core says of its accessibility. FSPROBE_AXE=axe.min.js is another version of axe-core.
"""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from fsprobe.listening.judgements import Judgements
from tests.support.browser import BROWSER, Browser, picture, press, visit
from tests.support.listening import make_catalogue

pytest.importorskip("uvicorn", reason="needs the extra `review`")
soundfile = pytest.importorskip("soundfile")

ROOT = Path(__file__).parents[3]
AXE = os.environ.get("FSPROBE_AXE") or files("axe_core_python") / "axe.min.js"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH"),
]


class Server:
    """python -m fsprobe.review in a process of its own."""

    def __init__(self, root: Path, port: int = 0):
        command = [
            *(sys.executable, "-m", "fsprobe.review", f"--manifest={root / 'manifest.csv'}"),
            *(f"--audio_root={root / 'audio'}", f"--store=mine={root / 'mine'}"),
            *(f"--labels={root / 'labels.sqlite'}", "--tag=bright", "--tag=calm", "--by=ear"),
            f"--port={port}",
        ]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        lines = [self.process.stdout.readline() for _ in range(2)]
        self.address = lines[1].strip()
        self.port = int(re.search(r":(\d+)/", self.address)[1])

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture
def catalogue(tmp_path):
    made = make_catalogue(tmp_path)
    rng = np.random.default_rng(0)
    for path in made.manifest.paths:
        sound = 0.3 * rng.standard_normal(16_000) * np.hanning(16_000)
        soundfile.write(tmp_path / "audio" / path, sound.astype(np.float32), 16_000)
    return made


@pytest.fixture
def server(catalogue):
    server = Server(catalogue.root)
    yield server
    if server.process.poll() is None:
        server.kill()


@pytest.fixture
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def wait(evaluate, expression, seconds=20):
    end = time.monotonic() + seconds
    while not evaluate(expression):
        assert time.monotonic() < end, (
            expression,
            evaluate("document.body.innerText"),
        )
        time.sleep(0.05)


ASKED = "current && seen && seen.clip === current.clip"


def answer(browser, evaluate, keys):
    for key in keys:
        wait(evaluate, ASKED)
        before = evaluate("JSON.stringify(current)")
        press(browser, evaluate.session, key)
        wait(evaluate, f"JSON.stringify(current) !== {before!r}")


def complaints_of_axe(evaluate):
    """What axe-core finds wrong with the page as it is."""
    evaluate(Path(AXE).read_text("utf-8") + "; 0")
    return evaluate(
        "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html).join('\\n'))"
    )


def test_twenty_clips_with_a_reload_and_a_kill(browser, server, catalogue):
    evaluate, *_ = visit(browser, server.address, 1400)
    answer(browser, evaluate, "yndyyn")
    evaluate("location.reload()")
    time.sleep(0.3)
    wait(evaluate, "document.readyState === 'complete' && window.current !== null && " + ASKED)
    answer(browser, evaluate, "ynyn")
    wait(evaluate, "pending.length === 0")
    server.kill()
    for key in "ynyd":  # said to nobody: kept in the browser
        press(browser, evaluate.session, key)
        time.sleep(0.3)
    kept = evaluate("pending.length")
    assert kept >= 1 and "not saved yet" in evaluate("document.querySelector('#saved').innerText")
    again = Server(catalogue.root, server.port)
    try:
        assert again.address == server.address
        wait(evaluate, "pending.length === 0")
        answer(browser, evaluate, ("yn" * 10)[: 20 - 10 - kept])
        wait(evaluate, "pending.length === 0")
        assert "all saved" in evaluate("document.querySelector('#saved').innerText")
        rows = Judgements(catalogue.root / "labels.sqlite").all()
        assert len(rows) == 20 and len({(row.clip, row.tag) for row in rows}) == 20
        assert [row.value for row in rows[:10]] == [
            {"y": "yes", "n": "no", "d": "unknown"}[key] for key in "yndyynynyn"
        ]
        press(browser, evaluate.session, "u")
        wait(evaluate, "document.querySelector('#message').innerText.startsWith('taken back')")
        assert len(Judgements(catalogue.root / "labels.sqlite").all()) == 19
        press(browser, evaluate.session, "f")
        wait(evaluate, "/fitted in/.test(document.querySelector('#message').innerText)", 60)
        wait(evaluate, ASKED + " && seen.scores.some(one => one.score !== null)")
        assert complaints_of_axe(evaluate) == ""
        picture(browser, evaluate.session, "review_fitted_1400")
    finally:
        again.kill()


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_is_clean_at_both_widths(browser, server, width):
    evaluate, requests, complaints = visit(browser, server.address, width)
    wait(evaluate, ASKED)
    wait(evaluate, "document.querySelector('#waveform').dataset.drawn")
    assert evaluate("document.documentElement.scrollWidth") <= width
    assert all(url.startswith(server.address) for url in requests) and complaints == []
    picture(browser, evaluate.session, f"review_{width}")
    wait(evaluate, "document.querySelector('audio').duration > 0")  # once its head is read
    assert evaluate("document.querySelector('audio').duration") == pytest.approx(1.0, abs=0.05)
    assert complaints_of_axe(evaluate) == ""
    evaluate("document.querySelector('main').append(document.createElement('button')); 0")
    assert complaints_of_axe(evaluate) == "button-name: <button></button>"


def test_every_control_is_reached_by_the_keyboard(browser, server):
    evaluate, *_ = visit(browser, server.address, 1400)
    wait(evaluate, ASKED)
    wanted = set(
        evaluate(
            "[...document.querySelectorAll('button, select, input, a, audio')]"
            ".map((e, i) => e.dataset.number = String(i))"
        )
    )
    reached = set()
    for _ in range(4 * len(wanted)):
        press(browser, evaluate.session, "Tab")
        number = evaluate("document.activeElement.dataset.number || ''")
        reached.add(number)
    assert wanted <= reached
    nameless = evaluate(
        "[...document.querySelectorAll('button, select, input, a')].filter(e =>"
        " !(e.innerText || e.getAttribute('aria-label') || (e.labels && e.labels.length)))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []


def test_a_tag_of_html_is_shown_as_a_text(browser, server):
    evaluate, *_ = visit(browser, server.address, 1400)
    wait(evaluate, ASKED)
    evil = "<img src=x onerror=document.title='evil'>"
    evaluate(f'document.querySelector("#name").value = "{evil}"')
    evaluate("document.querySelector('#new_tag').requestSubmit()")
    wait(evaluate, "document.querySelector('#question').innerText.includes('onerror')")
    assert evaluate("document.title") == "Listen and label"
    assert evaluate("document.images.length") == 0


@pytest.mark.parametrize("width", [400, 1400])
def test_a_long_tag_leaves_the_page_as_wide_as_the_window(browser, server, width):
    evaluate, *_ = visit(browser, server.address, width)
    wait(evaluate, ASKED)
    evaluate(f"document.querySelector('#name').value = '{'long name ' * 20}'")
    evaluate("document.querySelector('#new_tag').requestSubmit()")
    wait(evaluate, "document.querySelector('#question').innerText.includes('long name')")
    assert evaluate("document.documentElement.scrollWidth") <= width


def test_an_answer_that_is_refused_does_not_block_others(browser, server, catalogue):
    evaluate, *_ = visit(browser, server.address, 1400)
    wait(evaluate, ASKED)
    evaluate("judge('nowhere', 'calm', 'yes'); judge('c001', 'calm', 'no'); 0")
    wait(evaluate, "pending.length === 0")
    assert "not kept: nowhere" in evaluate("document.querySelector('#message').innerText")
    current = Judgements(catalogue.root / "labels.sqlite").current()
    assert current == {("c001", "calm"): "no"}


def test_a_late_answer_does_not_play_another_clip_than_is_asked_about(browser, server):
    evaluate, *_ = visit(browser, server.address, 1400)
    wait(evaluate, ASKED)
    evaluate(
        "const real = window.fetch; window.fetch = async (path, options) => {"
        " const answer = await real(path, options);"
        " if (String(path).startsWith('clip?id=c001'))"
        " { await new Promise((done) => setTimeout(done, 500)); window.late = true; }"
        " return answer; };"
        "for (const clip of ['c001', 'c002'])"
        " show({ clip, tag: 'calm', score: null, reason: 'a test' }); 0"
    )
    wait(evaluate, "window.late")
    time.sleep(0.2)
    assert evaluate("current.clip") == evaluate("seen.clip") == "c002"
    assert "c002" in evaluate("document.querySelector('#file').innerText")
    assert evaluate("document.querySelector('#player').src").endswith("audio?id=c002")


NO_NETWORK = "window.fetch = () => Promise.reject(new Error('no network')); 0"


def judged(catalogue):
    return Judgements(catalogue.root / "labels.sqlite").current()


def test_two_windows_lose_nothing(browser, server, catalogue):
    """Both answer without a network, both are closed; the next window sends what they left."""
    first, second = (visit(browser, server.address, 1400)[0] for _ in range(2))
    for evaluate in (first, second):
        wait(evaluate, ASKED)
        evaluate(NO_NETWORK)
    first("judge('c001', 'calm', 'yes'); 0")
    second("judge('c002', 'calm', 'yes'); 0")
    first("judge('c003', 'calm', 'no'); judge('c004', 'calm', 'no'); 0")
    first("undo()")
    assert judged(catalogue) == {}
    browser.call("Target.createTarget", url="about:blank")  # a browser without a page ends
    pages = browser.call("Target.getTargets")["targetInfos"]
    windows = [page["targetId"] for page in pages if page["url"] == server.address]
    assert len(windows) == 2
    for window in windows:
        browser.call("Target.closeTarget", targetId=window)
    evaluate, *_ = visit(browser, server.address, 1400)
    wait(evaluate, ASKED + " && pending.length === 0")
    expected = {("c001", "calm"): "yes", ("c002", "calm"): "yes", ("c003", "calm"): "no"}
    assert judged(catalogue) == expected
    assert evaluate("leftOver().length") == 0


def test_an_answer_whose_reply_was_lost_is_taken_back(browser, server, catalogue):
    evaluate, *_ = visit(browser, server.address, 1400)
    wait(evaluate, ASKED)
    evaluate(
        "const real = window.fetch; window.fetch = async (path, options) => {"
        " const answer = await real(path, options);"
        " if (path === 'judge') { window.fetch = (path, options) => path === 'judge'"
        " ? Promise.reject(new Error('lost')) : real(path, options); throw new Error('lost'); }"
        " return answer; };"
        "judge('c001', 'calm', 'yes'); 0"
    )
    wait(evaluate, "!sending")
    assert judged(catalogue) == {("c001", "calm"): "yes"} and evaluate("pending.length") == 1
    evaluate("undo()")
    wait(evaluate, "pending.length === 0")
    assert judged(catalogue) == {}
