"""An HTTP service that commands call: it fails as they tell it, and knows idempotency keys.

It writes each call into the ledger as an executor would, and each time that it would have done
what it was asked for if it had no memory; and it remembers what it has really done.
"""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from load.act_chaos.plan import HANG_S, Job, Step
from load.effects import Ledger, Line, Moment, Receiver

_STATUS: Final = {Step.FAIL: 503, Step.REFUSE: 409, Step.POISON: 400}
_OK: Final = 200
_UNAVAILABLE: Final = 503
_TOO_MANY: Final = 429


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has gone is none of its business; a mistake of ours is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class HttpReceiver:
    """The service, while the block lasts."""

    def __init__(self, ledger: Path, flow: str) -> None:
        self.receiver = Receiver()
        self.is_down = False
        """Whether it answers nothing but 503."""
        self._flow = flow
        self._ledger = Ledger(ledger)
        self._lock = threading.Lock()
        self._pleaded: set[tuple[str, int]] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._ledger.close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Do what the command of a request tells."""
        headers = request.headers
        body = request.rfile.read(int(headers["Content-Length"]))
        job, attempt = msgspec.json.decode(body, type=Job), int(headers["X-Attempt"])
        name = (headers["X-Command"], attempt)
        self._note(Moment.BEGAN, job, request, attempt)
        time.sleep(job.wait_ms / 1000)
        step = job.step(attempt)
        if self.is_down:
            _reply(request, _UNAVAILABLE)
        elif step in _STATUS:
            _reply(request, _STATUS[step])
        elif step is Step.THROTTLE and name not in self._pleaded:
            self._pleaded.add(name)
            _reply(request, _TOO_MANY, [("Retry-After", "1")])
        else:
            if step is Step.HANG_AND_DO:
                time.sleep(HANG_S)
            self._do(job, request, attempt)
            if step is Step.FAIL_AFTER:
                request.close_connection = True  # Without an answer.
            else:
                _reply(request, _OK)

    def _do(self, job: Job, request: BaseHTTPRequestHandler, attempt: int) -> None:
        with self._lock:
            self._note(Moment.EFFECT, job, request, attempt)
            self.receiver.apply(request.headers["Idempotency-Key"])

    def _note(
        self, moment: Moment, job: Job, request: BaseHTTPRequestHandler, attempt: int
    ) -> None:
        self._ledger.write(
            Line(
                moment,
                self._flow,
                request.headers["X-Command"],
                request.headers["Idempotency-Key"],
                job.key,
                job.number,
                attempt,
                time.time_ns() / 1e6,
                0,
            )
        )


def _reply(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]] | None = None
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", "0")
    for name, value in headers or ():
        request.send_header(name, value)
    request.end_headers()
