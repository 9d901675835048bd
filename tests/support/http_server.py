"""A local HTTP server that misbehaves on request."""

import hashlib
import http.server
import re
import threading

import numpy as np
import pytest

DATA = np.random.default_rng(0).bytes(700_000)  # a few chunks
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `ranges`: honour Range; `cut`: lengths after which the next answers break
    off; `fail`: codes of the next answers; `log`: the Range header of every request.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/file": DATA}
        self.ranges, self.etag, self.cut, self.fail, self.log = True, '"one"', [], [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.log.append(wanted)
        data = server.files.get(self.path)
        if server.fail or data is None:
            return self.send_error(server.fail.pop(0) if server.fail else 404)
        same = self.headers.get("If-Range") in (None, server.etag)
        start = (
            int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if wanted and server.ranges and same
            else 0
        )
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        rest = data[start:]
        self.wfile.write(rest[: server.cut.pop(0)] if server.cut else rest)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
