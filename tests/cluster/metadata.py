"""A cloud's metadata service, as a machine asks it about itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer


class Metadata(BaseHTTPRequestHandler):
    """As both clouds publish it; AWS's second version wants a token first."""

    ends: datetime | None = None

    def do_PUT(self) -> None:
        asked = int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"])
        self.reply("secret" if 0 < asked <= 21600 and self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        if self.headers["Metadata-Flavor"] == "Google":
            assert self.path == "/computeMetadata/v1/instance/preempted"
            self.reply("FALSE" if self.ends is None else "TRUE")
        elif self.headers["X-aws-ec2-metadata-token"] != "secret":
            self.reply(None, 401)
        elif self.path != "/latest/meta-data/spot/instance-action" or self.ends is None:
            self.reply(None)
        else:
            time = self.ends.strftime("%Y-%m-%dT%H:%M:%SZ")
            self.reply(json.dumps({"action": "terminate", "time": time}))

    def reply(self, text: str | None, code: int = 404) -> None:
        self.send_response(200 if text is not None else code)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def metadata(ends: datetime | None) -> Iterator[str]:
    handler = type("Now", (Metadata,), {"ends": ends})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
