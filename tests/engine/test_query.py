"""`edo query` asks a worker, here one that answers as it is told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from edo_stream.cli.main import app


class _NeverApplied(BaseHTTPRequestHandler):
    """A worker that does not wait, and says so: as each of them does of the part it was asked."""

    def do_GET(self) -> None:
        document = {"reason": "not-applied", "detail": "not applied within 0 s"}
        body = json.dumps(document).encode()
        self.send_response(504)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def worker() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _NeverApplied) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_time_that_is_told_is_the_one_that_was_given(worker: str) -> None:
    """Not the part of it that the last question asked for."""
    asked = ["query", "pair", "o-1", "--min-offset", "a.b.c:0:9", "--timeout", "0.4"]
    result = CliRunner().invoke(app, [*asked, "--worker", worker])
    assert "not applied within 0.4 s (not-applied)" == str(result.exception)
