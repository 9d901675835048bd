"""An S3 on this machine, moto's, and before it a proxy that misbehaves on request."""

import http.client
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer

BUCKET = "music"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


# Headers of one hop, and checksums, so that it is not the library that finds what is short.
HOP = ("content-length", "transfer-encoding", "connection", "x-amz-checksum")


class Proxy(http.server.ThreadingHTTPServer):
    """fail: status codes of the next answers to GET with a range. cut: bytes after which the next
    such answers break off; short: bytes that the next ones hold, and say so. slow: seconds before
    each. dead: every request fails. log: method and Range of each request.
    """

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = port
        self.fail: list[int] = []
        self.cut: list[int] = []
        self.short: list[int] = []
        self.slow, self.dead = 0.0, False
        self.log: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, *arguments: object) -> None:
        pass

    def answer(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.log.append((self.command, wanted))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if server.dead:
            return self.send_error(503)
        if wanted:
            time.sleep(server.slow)
            if server.fail:
                return self.send_error(server.fail.pop(0))
        behind = http.client.HTTPConnection("127.0.0.1", server.behind, timeout=30)
        behind.request(self.command, self.path, body, dict(self.headers.items()))
        answer = behind.getresponse()
        data = answer.read()
        length = answer.headers.get("Content-Length", str(len(data)))
        if wanted and server.short:
            data = data[: server.short.pop(0)]
            length = str(len(data))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if not name.lower().startswith(HOP):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(data[: server.cut.pop(0)] if wanted and server.cut else data)
        behind.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer


@contextmanager
def object_store() -> Iterator[Proxy]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        with Proxy(moto.get_host_and_port()[1]) as proxy:
            thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield proxy
            finally:
                proxy.shutdown()
                thread.join()
    finally:
        moto.stop()


def upload(proxy: Proxy, folder: Path, prefix: str) -> str:
    """Put a folder's files there; the address of the folder."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{proxy.behind}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            key = f"{prefix}/{file.relative_to(folder).as_posix()}"
            client.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
    return f"s3://{BUCKET}/{prefix}"
