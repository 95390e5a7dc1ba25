"""moto's S3 as a real server of this machine, that can be slow, throttled, or gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "results"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "an-id",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see",
    "AWS_EC2_METADATA_DISABLED": "true",
}
OTHERS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
REFUSALS = {
    "503 Slow Down": b"<Error><Code>SlowDown</Code><Message>Fewer requests.</Message></Error>",
    "500 Internal Server Error": b"<Error><Code>InternalError</Code></Error>",
}
"""Status -> what S3 says with it."""


class Store:
    """moto's server on a port of this machine. What it holds outlives ``stop`` and ``start``."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """Method and path of every request since it was last cleared."""
        self.refusal = "503 Slow Down"
        self.refusals, self.refused = 0, 0
        """Requests to come that are answered with ``refusal``; those that were."""
        self.cuts, self.cut = 0, 0
        """Answers to come with content that break off in its middle; those that did."""
        self.delay = 0.0
        """Seconds before every answer."""
        self.lists_as_before = False
        """Whether a listing is answered as when it was first asked for, and how many were."""
        self.old_answers = 0
        self._listings: dict[str, tuple[str, list[tuple[str, str]], bytes]] = {}
        self._port = 0
        self.start()
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=BUCKET)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]
        assert self._server._server is not None
        self._answer = self._server._server.app
        self._server._server.app = self._count

    def stop(self) -> None:
        """Connections are refused from now on, as by a machine without a server."""
        server = self._server._server
        self._server.stop()
        assert server is not None
        server.server_close()

    def _count(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Any:
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        time.sleep(self.delay)
        if self.refusals > 0:
            self.refusals -= 1
            self.refused += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            content = REFUSALS[self.refusal]
            respond(self.refusal, [("Content-Length", str(len(content)))])
            return [content]
        if "list-type=2" in environ.get("QUERY_STRING", ""):
            return self._list(environ, respond)
        if self.cuts > 0 and environ["REQUEST_METHOD"] == "GET":
            return self._break_off(environ, respond)
        return self._answer(environ, respond)

    def _whole(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        """Status, headers and content."""
        head: list[Any] = []
        content = b"".join(self._answer(environ, lambda *words: head.extend(words)))
        return head[0], head[1], content

    def _list(self, environ: dict[str, Any], respond: Callable[..., Any]) -> list[bytes]:
        question = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        fresh = self._whole(environ)
        old = self._listings.setdefault(question, fresh)
        self.old_answers += self.lists_as_before and old != fresh
        status, headers, content = old if self.lists_as_before else fresh
        respond(status, headers)
        return [content]

    def _break_off(self, environ: dict[str, Any], respond: Callable[..., Any]) -> list[bytes]:
        """With the length of the whole."""
        status, headers, content = self._whole(environ)
        if len(content) > 1:
            self.cuts -= 1
            self.cut += 1
        respond(status, headers)
        return [content[: len(content) // 2]]

    def count(self, work: Callable[[], object]) -> int:
        """Requests that it makes."""
        self.requests.clear()
        work()
        return len(self.requests)


def use(server: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}).items():
        monkeypatch.setenv(name, value)
