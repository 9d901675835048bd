"""The review server: the page, its data as JSON, and the sounds of the clips."""

import json
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from extract.errors import InputError
from extract.manifest import Manifest, write_manifest
from fsprobe.listening.exchange import merged
from fsprobe.listening.judgements import New
from fsprobe.listening.strategies import STRATEGIES
from fsprobe.review_page.desk import MOST, Desk
from fsprobe.review_page.guard import LARGEST_BODY, Guard
from fsprobe.review_page.sound import find_sound

ENTRIES = 1000  # judgements in one request
_ASSETS = {
    "": ("index.html", "text/html; charset=utf-8"),
    "review.css": ("review.css", "text/css; charset=utf-8"),
    "review.js": ("review.js", "text/javascript; charset=utf-8"),
}

Ask = Callable[[Mapping[str, Any]], Any]


def build(
    desk: Desk, audio_root: Path, token: str, hosts: Iterable[str], follow_links: bool = False
) -> Guard:
    """The server as an ASGI app. hosts: `name:port` that it answers to."""
    answers = _Answers(desk, audio_root, follow_links)
    asked = (answers.state, answers.questions, answers.clip, answers.find)
    search = "What it sounds like, in words" if desk.words else "Part of a name"
    told = (answers.judge, answers.withdraw, answers.tag, answers.fit)
    routes = [
        *(Route(f"/{path}", _asset(*asset, search)) for path, asset in _ASSETS.items()),
        Route("/audio", answers.sound),
        Route("/export", answers.export),
        *(Route(f"/{ask.__name__}", _answer(ask)) for ask in asked),
        *(Route(f"/{ask.__name__}", _answer(ask), methods=["POST"]) for ask in told),
    ]
    return Guard(Starlette(routes=routes), token, hosts)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What is asked at each address, by the method's name. asked: the parameters of a GET, the
    object that a POST sends. All run in threads.
    """

    desk: Desk
    audio_root: Path
    follow_links: bool

    def state(self, asked: Mapping[str, Any]) -> Any:
        return self.desk.state() | {"strategies": STRATEGIES}

    def questions(self, asked: Mapping[str, Any]) -> Any:
        count = _whole(asked.get("count", "20"), MOST)
        tag, strategy = asked.get("tag", ""), asked.get("strategy", "")
        return self.desk.questions(tag, strategy, count, asked.get("window", "")[:100])

    def clip(self, asked: Mapping[str, Any]) -> Any:
        return self.desk.clip(asked.get("id", ""))

    def find(self, asked: Mapping[str, Any]) -> Any:
        return self.desk.find(asked.get("text", ""), asked.get("like", ""))

    def judge(self, asked: Mapping[str, Any]) -> Any:
        entries = asked.get("entries")
        if not isinstance(entries, list) or len(entries) > ENTRIES:
            raise InputError(f"entries: a list of at most {ENTRIES} judgements")
        return {"ids": self.desk.judge([_entry(one) for one in entries])}

    def withdraw(self, asked: Mapping[str, Any]) -> Any:
        if "entry" in asked:
            return self.desk.withdraw_sent(_entry(asked["entry"]))
        number = asked.get("id")
        if number is not None and (type(number) is not int or not 0 < number < 2**62):
            raise InputError("id: a judgement's number")
        return self.desk.withdraw(number)

    def tag(self, asked: Mapping[str, Any]) -> Any:
        name = asked.get("tag")
        if not isinstance(name, str):
            raise InputError("tag: a name")
        self.desk.add_tag(name)
        return {}

    def fit(self, asked: Mapping[str, Any]) -> Any:
        return self.desk.fit_again()

    def export(self, request: Request) -> Response:
        return Response(
            _as_csv(merged(self.desk.manifest, self.desk.judgements.current())),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="manifest.csv"'},
        )

    def sound(self, request: Request) -> Response:
        place = self.desk.places.get(request.query_params.get("id", ""))
        try:
            if place is None:
                raise InputError("no such clip, or it has no file")
            file, kind = find_sound(self.audio_root, place.path, self.follow_links)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 404)
        return FileResponse(file, media_type=kind)


def _asset(name: str, kind: str, search: str) -> Callable[[Request], Awaitable[Response]]:
    """search: what the search field takes."""
    text = (files("fsprobe.review_page") / "assets" / name).read_text("utf-8")
    content = text.replace("{{search}}", search)

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


def _answer(ask: Ask) -> Callable[[Request], Awaitable[Response]]:
    """JSON of what `ask` returns; 422 with the reason where it raises InputError."""

    async def answer(request: Request) -> Response:
        try:
            asked = await _body(request) if request.method == "POST" else request.query_params
            return JSONResponse(await run_in_threadpool(ask, asked))
        except InputError as error:
            return JSONResponse({"error": str(error)}, 422)

    return answer


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object sent. Raises InputError on anything else."""
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST_BODY:
            raise InputError("too long")
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise InputError("not JSON") from None
    if not isinstance(body, dict):
        raise InputError("not a JSON object")
    return body


def _entry(one: Any) -> New:
    whole = isinstance(one, dict) and {*one} == {*New._fields}
    if not whole or not all(isinstance(text, str) for text in one.values()):
        raise InputError("a judgement is {clip, tag, value, key}, all of them texts")
    return New(**one)


def _whole(text: str, most: int) -> int:
    if not text.isdecimal() or not 0 < int(text[:9]) <= most:
        raise InputError(f"count {text!r:.20}: a whole number up to {most}")
    return int(text)


def _as_csv(manifest: Manifest) -> bytes:
    with tempfile.TemporaryDirectory(prefix="fsprobe-") as folder:
        path = Path(folder, "manifest.csv")
        write_manifest(path, manifest)
        return path.read_bytes()
