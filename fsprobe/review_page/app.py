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

_BY_NAME, _BY_WORDS = "Part of a name", "What it sounds like, in words"

Ask = Callable[[Request], Awaitable[Any]]


def build(
    desk: Desk, audio_root: Path, token: str, hosts: Iterable[str], follow_links: bool = False
) -> Guard:
    """The server as an ASGI app. hosts: `name:port` that it answers to."""
    answers = _Answers(desk, audio_root, follow_links)
    asked = (answers.state, answers.questions, answers.clip, answers.find)
    search = _BY_WORDS if desk.words else _BY_NAME
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
    """What is asked at each address, by the method's name; the desk works in threads."""

    desk: Desk
    audio_root: Path
    follow_links: bool

    async def state(self, request: Request) -> Any:
        return await run_in_threadpool(self.desk.state) | {"strategies": STRATEGIES}

    async def questions(self, request: Request) -> Any:
        asked = request.query_params
        strategy = asked.get("strategy", "")
        if strategy not in STRATEGIES:
            raise InputError(f"strategy {strategy!r:.60}: use one of {', '.join(STRATEGIES)}")
        count = _whole(asked.get("count", "20"), MOST)
        tag, window = asked.get("tag", ""), asked.get("window", "")[:100]
        return await run_in_threadpool(self.desk.questions, tag, strategy, count, window)

    async def clip(self, request: Request) -> Any:
        return await run_in_threadpool(self.desk.clip, request.query_params.get("id", ""))

    async def find(self, request: Request) -> Any:
        asked = request.query_params
        return await run_in_threadpool(self.desk.find, asked.get("text", ""), asked.get("like", ""))

    async def judge(self, request: Request) -> Any:
        entries = (await _body(request)).get("entries")
        if not isinstance(entries, list) or len(entries) > ENTRIES:
            raise InputError(f"entries: a list of at most {ENTRIES} judgements")
        return {"ids": await run_in_threadpool(self.desk.judge, [_entry(one) for one in entries])}

    async def withdraw(self, request: Request) -> Any:
        body = await _body(request)
        if "entry" in body:
            return await run_in_threadpool(self.desk.withdraw_sent, _entry(body["entry"]))
        number = body.get("id")
        if number is not None and (type(number) is not int or not 0 < number < 2**62):
            raise InputError("id: a judgement's number")
        return await run_in_threadpool(self.desk.withdraw, number)

    async def tag(self, request: Request) -> Any:
        name = (await _body(request)).get("tag")
        if not isinstance(name, str):
            raise InputError("tag: a name")
        await run_in_threadpool(self.desk.add_tag, name)
        return {}

    async def fit(self, request: Request) -> Any:
        await _body(request)
        return await run_in_threadpool(self.desk.fit_again)

    async def export(self, request: Request) -> Response:
        current = await run_in_threadpool(self.desk.judgements.current)
        return Response(
            await run_in_threadpool(_as_csv, merged(self.desk.manifest, current)),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="manifest.csv"'},
        )

    async def sound(self, request: Request) -> Response:
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
    content = text.replace("{{search}}", search).encode()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


def _answer(ask: Ask) -> Callable[[Request], Awaitable[Response]]:
    """JSON of what `ask` returns; 422 with the reason where it raises InputError."""

    async def answer(request: Request) -> Response:
        try:
            return JSONResponse(await ask(request))
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
    if not isinstance(one, dict) or not {*one} <= {*New._fields}:
        raise InputError("a judgement is {clip, tag, value, key}")
    texts = [text for name in New._fields if isinstance(text := one.get(name), str)]
    if len(texts) < len(New._fields):
        raise InputError("a judgement is {clip, tag, value, key}, all of them texts")
    return New(*texts)


def _whole(text: str, most: int) -> int:
    if not text.isdecimal() or not 0 < int(text[:9]) <= most:
        raise InputError(f"count {text!r:.20}: a whole number up to {most}")
    return int(text)


def _as_csv(manifest: Manifest) -> bytes:
    with tempfile.TemporaryDirectory(prefix="fsprobe-") as folder:
        path = Path(folder, "manifest.csv")
        write_manifest(path, manifest)
        return path.read_bytes()
