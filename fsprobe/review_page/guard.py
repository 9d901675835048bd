"""Who may ask the review server: whoever knows the token, from a page of its own.

The address is http://HOST:PORT/TOKEN/. A request is refused if its Host is not one of ours (a
foreign name that leads to this machine: DNS rebinding), if it comes from another page (Origin,
Sec-Fetch-Site), if its path does not begin with the token, or if what it sends is not JSON or too
long. Nothing else is looked at before.
"""

import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 1_000_000  # bytes
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; media-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets requests through to `app` with the token taken off their path.

    hosts: `name:port` as a Host header has them.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str]):
        self.app, self.token = app, token.encode()
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            status, why = refusal
            await PlainTextResponse(f"{why}\n", status)(scope, receive, with_headers)
            return
        _, _, rest = scope["path"][1:].partition("/")
        await self.app({**scope, "path": f"/{rest}", "root_path": ""}, receive, with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """(status, why), or None for a request that may pass."""
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self.hosts:
            return 421, "not the host of this server; see --allow_host"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        ours = origin is None or origin.lower() in {f"http://{host}" for host in self.hosts}
        if not ours or site not in ("none", "same-origin"):
            return 403, "asked from another page"
        first = scope["path"][1:].partition("/")[0].encode("utf-8", "surrogatepass")
        if not secrets.compare_digest(first, self.token):
            return 403, "the address is not whole: use the one that the command printed"
        if scope["method"] == "POST":
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return 415, "not JSON"
            length = headers.get("content-length", "")
            if not length.isdecimal() or int(length) > LARGEST_BODY:
                return 413, f"more than {LARGEST_BODY} bytes at once"
        return None
