"""The review server: who may ask, what it gives, what it keeps."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from extract.manifest import read_manifest, write_manifest
from extract.word_vectors.directory import write_words
from extract.word_vectors.lookup import TagVectors
from tests.support.listening import make_catalogue, make_desk

testclient = pytest.importorskip("starlette.testclient", reason="needs the extra `review`")

from fsprobe.review_page.app import build  # noqa: E402

TOKEN = "a-token-that-nobody-guesses"
HOSTS = {"127.0.0.1:8765", "localhost:8765"}
HERE = "http://127.0.0.1:8765"
HTML, SQL = "<img src=x onerror=alert(1)>", "'); DROP TABLE judgements; --"


@pytest.fixture
def desk(tmp_path):
    desk = make_desk(make_catalogue(tmp_path))
    yield desk
    desk.judgements.close()


def client_of(desk, **more):
    app = build(desk, desk.judgements.path.parent / "audio", TOKEN, HOSTS, **more)
    return testclient.TestClient(app, base_url=f"{HERE}/{TOKEN}/", raise_server_exceptions=False)


@pytest.fixture
def client(desk):
    return client_of(desk)


def judge(client, *entries, **headers):
    sent = [dict(zip(("clip", "tag", "value", "key"), one, strict=True)) for one in entries]
    return client.post("judge", json={"entries": sent}, headers=headers)


# Who may ask


@pytest.mark.parametrize(
    "path", ["", "state", "audio?id=c000", "export", "review.js", "nothing", "questions"]
)
@pytest.mark.parametrize(
    "token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%C3%BC%00"]
)
def test_without_the_token_nothing_is_told(client, path, token):
    answer = client.get(f"{HERE}/{token}/{path}" if token else f"{HERE}/{path}")
    assert answer.status_code == 403 and "address" in answer.text
    assert "c0" not in answer.text and TOKEN not in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1", "", "[::1]:8765"]
)
def test_other_hosts_names_are_refused(client, host):
    assert client.get("state", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_are_refused(client, desk, headers):
    assert client.get("state", headers=headers).status_code == 403
    assert judge(client, ("c000", "calm", "yes", "k"), **headers).status_code == 403
    assert desk.judgements.all() == []


def test_the_page_s_own_requests_pass(client):
    for headers in ({}, {"Origin": HERE}, {"Origin": "http://localhost:8765"}):
        assert client.get("state", headers=headers).status_code == 200
    page = client.get("")
    assert page.status_code == 200 and "Listen and label" in page.text


def test_forms_and_large_bodies_are_refused(client, desk):
    form = client.post("judge", data={"entries": "x"})
    plain = client.post("judge", content="{}", headers={"Content-Type": "text/plain"})
    assert (form.status_code, plain.status_code) == (415, 415)
    large = client.post(
        "judge", content=b" " * 1_000_001, headers={"Content-Type": "application/json"}
    )
    assert large.status_code == 413
    assert client.get("judge").status_code == 405
    assert desk.judgements.all() == []


def test_every_answer_forbids_what_the_page_does_not_need(client):
    for path in ("", "state", "audio?id=c000", "nothing", f"{HERE}/wrong/"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_the_page_asks_the_network_for_nothing(client):
    for path in ("", "review.js", "review.css"):
        assert "http" not in client.get(path).text.replace("https://localhost", "")


# Sounds


def test_ranges(client):
    whole = client.get("audio", params={"id": "c001"})
    assert whole.status_code == 200 and whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-type"] == "audio/wav" and len(whole.content) == 2048
    part = client.get("audio", params={"id": "c001"}, headers={"Range": "bytes=1000-1099"})
    assert part.status_code == 206 and part.content == whole.content[1000:1100]
    assert part.headers["content-range"] == "bytes 1000-1099/2048"
    last = client.get("audio", params={"id": "c001"}, headers={"Range": "bytes=-10"})
    assert last.content == whole.content[-10:]
    beyond = client.get("audio", params={"id": "c001"}, headers={"Range": "bytes=5000-"})
    assert beyond.status_code == 416


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "..", "a/../../labels.sqlite", "link", "audio", ""]
)
def test_no_file_outside_the_audio_root(desk, tmp_path, path):
    (tmp_path / "audio" / "link").symlink_to("/etc/passwd")
    paths = (path, *desk.manifest.paths[1:])
    desk.manifest = replace(desk.manifest, paths=paths)
    desk.__post_init__()
    answer = client_of(desk).get("audio", params={"id": "c000"})
    assert answer.status_code == 404 and "root:" not in answer.text


def test_a_clip_without_a_file_is_judged_all_the_same(desk):
    desk.manifest = replace(desk.manifest, paths=("", *desk.manifest.paths[1:]))
    desk.__post_init__()
    client = client_of(desk)
    assert client.get("clip?id=c000").json()["sound"] is None
    there = client.get("clip?id=c001").json()["sound"]
    assert there == {"path": "c001.wav", "start": None, "duration": None}
    assert judge(client, ("c000", "calm", "no", "k")).status_code == 200


def test_links_may_lead_out_when_asked_for(desk, tmp_path):
    (tmp_path / "elsewhere.wav").write_bytes(b"sound")
    (tmp_path / "audio" / "c000.wav").unlink()
    (tmp_path / "audio" / "c000.wav").symlink_to(tmp_path / "elsewhere.wav")
    assert client_of(desk).get("audio", params={"id": "c000"}).status_code == 404
    assert client_of(desk, follow_links=True).get("audio?id=c000").content == b"sound"


@pytest.mark.parametrize(
    "path",
    [
        "../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "review.js/../../app.py",
        "audio?id=../../etc/passwd",
        "audio/../../../etc/passwd",
    ],
)
def test_paths_in_the_address_lead_nowhere(client, path):
    answer = client.get(f"{HERE}/{TOKEN}/{path}")
    assert answer.status_code in (403, 404) and "root:" not in answer.text


# Judgements


def test_questions_answers_and_undo(client, desk):
    asked = client.get("questions?strategy=uncertain&count=5&tag=calm&window=w").json()
    assert len(asked) == 5 and {one["tag"] for one in asked} == {"calm"}
    assert asked[0]["score"] is None and "no head yet" in asked[0]["reason"]
    clip = asked[0]["clip"]
    (number,) = judge(client, (clip, "calm", "yes", "k1")).json()["ids"]
    assert judge(client, (clip, "calm", "yes", "k1")).json()["ids"] == [number]  # sent again
    shown = {one["tag"]: one["value"] for one in client.get(f"clip?id={clip}").json()["scores"]}
    assert shown == {"bright": None, "calm": "yes"}
    again = client.get("questions?strategy=random&count=60&tag=calm&window=w").json()
    assert clip not in {one["clip"] for one in again} and len(again) == 59
    state = client.get("state").json()
    assert (state["judged"], state["clips_judged"], state["clips"]) == (1, 1, 60)
    assert client.post("withdraw", json={"id": number}).json()["clip"] == clip
    assert client.post("withdraw", json={}).json() is None
    assert desk.judgements.current() == {}


def test_an_answer_is_taken_back_whether_it_has_arrived_or_not(client, desk):
    names = ("clip", "tag", "value", "key")
    there, later = ("c000", "calm", "yes", "k1"), ("c001", "calm", "yes", "k2")
    judge(client, there)
    for entry in (there, later, later):
        body = {"entry": dict(zip(names, entry, strict=True))}
        assert client.post("withdraw", json=body).status_code == 200
    assert judge(client, there, later).status_code == 200  # sent late, by another window
    assert desk.judgements.current() == {}


def test_clips_without_a_tag_are_asked_about_though_they_count_as_no(desk):
    desk.manifest = replace(desk.manifest, tags=(("bright",), *desk.manifest.tags[1:]))
    desk.__post_init__()
    client = client_of(desk)
    asked = client.get("questions?strategy=random&count=100&tag=bright&window=w").json()
    assert {one["clip"] for one in asked} == {*desk.pool.clip_ids[1:]}
    told = [client.get(f"clip?id={clip}").json()["scores"][0] for clip in ("c000", "c001")]
    assert [one["value"] for one in told] == ["yes", None]
    counts = {one["tag"]: one for one in client.get("state").json()["tags"]}
    assert (counts["bright"]["yes"], counts["bright"]["no"]) == (1, 59)
    judge(client, ("c001", "bright", "yes", "k"))
    counts = {one["tag"]: one for one in client.get("state").json()["tags"]}
    assert (counts["bright"]["yes"], counts["bright"]["no"]) == (2, 58)


def test_two_windows_are_asked_about_different_clips(client):
    first, second, again = (
        {
            one["clip"]
            for one in client.get(f"questions?strategy=random&count=20&tag=calm&window={w}").json()
        }
        for w in ("one", "two", "one")
    )
    assert not first & second and not again & second and len(second) == 20


def test_fit_again_moves_the_scores(client, desk, tmp_path):
    truth = make_catalogue(tmp_path / "same").truth
    refused = client.post("fit", json={})
    assert refused.status_code == 422 and "yes and a no" in refused.json()["error"]
    judge(client, *(
        (f"c{row:03}", tag, "yes" if truth[row, t] else "no", f"k{row} {tag}")
        for row in range(30) for t, tag in enumerate(("bright", "calm"))
    ))  # fmt: skip
    verdicts = client.post("fit", json={}).json()
    assert set(verdicts) == {"bright", "calm"} and "ROC-AUC" in verdicts["calm"]
    rows = [
        {one["tag"]: one for one in client.get(f"clip?id=c{row:03}").json()["scores"]}
        for row in range(30, 60)
    ]
    for t, tag in enumerate(("bright", "calm")):
        right = [(row[tag]["score"] > 0.5) == truth[30 + i, t] for i, row in enumerate(rows)]
        assert sum(right) > 24
    assert rows[0]["calm"]["before"] is None
    judge(client, *((f"c{row:03}", "calm", "no", f"again {row}") for row in range(20)))
    client.post("fit", json={})
    moved = client.get("clip?id=c031").json()["scores"]
    calm = next(one for one in moved if one["tag"] == "calm")
    assert calm["before"] == pytest.approx(rows[1]["calm"]["score"]) != calm["score"]
    least = client.get("questions?strategy=top&count=3&tag=bright&window=w").json()
    assert [one["score"] for one in least] == sorted((one["score"] for one in least), reverse=True)


def test_tags_of_html_and_sql_stay_texts(client, desk, tmp_path):
    for tag in (HTML, SQL):
        assert client.post("tag", json={"tag": tag}).status_code == 200
        assert judge(client, ("c000", tag, "yes", tag)).status_code == 200
    assert {one["tag"] for one in client.get("state").json()["tags"]} >= {HTML, SQL}
    state = client.get("state")
    assert state.headers["content-type"] == "application/json"
    exported = client.get("export")
    assert exported.headers["content-disposition"].startswith("attachment")
    (tmp_path / "m.csv").write_bytes(exported.content)
    assert read_manifest(tmp_path / "m.csv").tags[0] == (HTML, SQL)
    script = client.get("review.js").text
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("judge", {"entries": "x"}),
        ("judge", {"entries": [1]}),
        ("judge", {"entries": [{"clip": "c000"}]}),
        ("judge", {"entries": [{"clip": "c000", "tag": "a", "value": "perhaps", "key": "k"}]}),
        ("judge", {"entries": [{"clip": "nowhere", "tag": "a", "value": "yes", "key": "k"}]}),
        ("judge", {"entries": [{"clip": "c000", "tag": "a|b", "value": "yes", "key": "k"}]}),
        ("judge", {"entries": [{"clip": "c000", "tag": ["a"], "value": "yes", "key": "k"}]}),
        ("judge", {"entries": [{}] * 1001}),
        ("judge", []),
        ("tag", {"tag": "a\nb"}),
        ("tag", {"tag": 1}),
        ("withdraw", {"id": "1; DROP TABLE judgements"}),
        ("withdraw", {"id": True}),
        ("withdraw", {"id": 2**70}),
        ("withdraw", {"entry": {"clip": "c000", "tag": "a", "value": "yes"}}),
        ("withdraw", {"entry": {"clip": "nowhere", "tag": "a", "value": "yes", "key": "k"}}),
        ("withdraw", {"entry": {"clip": "c000", "tag": "a|b", "value": "yes", "key": "k"}}),
    ],
)
def test_what_cannot_be_kept_is_said(client, desk, path, body):
    answer = client.post(path, json=body)
    assert answer.status_code == 422 and answer.json()["error"]
    assert desk.judgements.all() == []


@pytest.mark.parametrize(
    "query",
    [
        "questions?strategy=best",
        "questions?strategy=top&count=-1",
        "questions?strategy=top&count=999999999999999999999",
        "questions?strategy=top&tag=nothing",
        "clip?id=nowhere",
        "find?like=nowhere",
    ],
)
def test_questions_that_make_no_sense(client, query):
    assert client.get(query).status_code == 422


def test_finding_clips(client):
    assert [hit["clip"] for hit in client.get("find?text=C01").json()] == [
        f"c01{i}" for i in range(10)
    ]
    near = client.get("find?like=c005").json()
    assert len(near) == 30 and "c005" not in {hit["clip"] for hit in near}
    assert client.get("find", params={"text": "%' OR 1=1"}).json() == []


def test_finding_clips_by_a_text_as_the_command_does(commands, tmp_path):
    """The text is no tag; its vector lies between those of two tags of eight."""
    made = make_catalogue(tmp_path, 120, tuple("abcdefgh"))
    tags = tuple(
        tuple(t for t, has in zip(made.tags, row, strict=True) if has) for row in made.truth
    )
    made = made._replace(manifest=replace(made.manifest, tags=tags))
    write_manifest(tmp_path / "manifest.csv", made.manifest)
    vectors = np.random.default_rng(4).standard_normal((9, 12)).astype(np.float32)
    vectors[8] = vectors[2] + vectors[5]
    names = (*made.tags, "slow sad piano")
    rows = (f"{name},{','.join(map(str, row))}" for name, row in zip(names, vectors, strict=True))
    (tmp_path / "v.csv").write_text("\n".join([f"tag,{','.join('abcdefghijkl')}", *rows]))
    origin = {"source": "v.csv", "path": str(tmp_path / "v.csv"), "prompt": []}
    write_words(tmp_path / "words", TagVectors(names[:8], vectors[:8], ()), origin)
    desk = make_desk(made, words=tmp_path / "words")
    client = client_of(desk)

    hits = client.get("find", params={"text": " slow sad piano "}).json()
    done = commands.run(
        *("fsprobe.search", f"--store=mine={tmp_path / 'mine'}"),
        *(f"--manifest={tmp_path / 'manifest.csv'}", f"--words={tmp_path / 'words'}"),
        *("--query=slow sad piano", "--count=30", f"--out={tmp_path / 'found.csv'}"),
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "found.csv").read_text().splitlines()[1:]
    assert [hit["clip"] for hit in hits] == [line.partition(",")[0] for line in lines]
    scores = [float(line.partition(",")[2]) for line in lines]
    np.testing.assert_allclose([hit["score"] for hit in hits], scores, atol=1e-5)
    first = made.truth[[desk.place[hit["clip"]] for hit in hits[:10]]]
    assert first[:, [2, 5]].mean() > 1.5 * made.truth[:, [2, 5]].mean()

    for text, says in (("no such words", "has no vector in"), ("a|b", "without '|'")):
        refused = client.get("find", params={"text": text})
        assert refused.status_code == 422 and says in refused.json()["error"]
    assert len(client.get("find", params={"text": ""}).json()) == 30  # nothing asked: all clips
    assert len(client.get("find", params={"like": "c005"}).json()) == 30
    assert "What it sounds like, in words <input" in client.get("").text
    desk.judgements.close()


def test_without_words_the_page_says_that_it_finds_names(client):
    assert "Part of a name <input" in client.get("").text


def test_ten_thousand_labels_at_once(client, desk):
    """From four senders, some sent twice: all are there, none twice."""
    clips, answers = desk.pool.clip_ids, []

    def send(sender):
        for part in range(5):
            numbers = range(sender * 2500 + part * 500, sender * 2500 + part * 500 + 500)
            entries = [(clips[n % 60], f"t{n // 60}", "yes", f"k{n}") for n in numbers]
            answers.extend(judge(client, *entries).status_code for _ in range(2))

    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert answers == [200] * 40
    assert len(desk.judgements.all()) == len(desk.judgements.current()) == 10_000
