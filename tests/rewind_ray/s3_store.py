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
SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Store:
    """moto's server on a port of this machine. What it holds outlives ``stop`` and ``start``."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """Method and path of every request since it was last cleared."""
        self.refusals = 0
        """Requests to come that are answered with 503 SlowDown."""
        self.delay = 0.0
        """Seconds before every answer."""
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
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            respond("503 Slow Down", [("Content-Length", str(len(SLOW_DOWN)))])
            return [SLOW_DOWN]
        return self._answer(environ, respond)

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
