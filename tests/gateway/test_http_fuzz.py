"""Whatever bytes come, the gateway answers what are requests and closes the rest."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.place import PATIENCE_S, Place, at_place, signed, until

BODY = b'{"type":"t","data":{"customer":"c"}}'
PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"POST /signed HTTP/1.1\r\n", b"POST /events HTTP/1.1\r\n",
            b"GET /metrics HTTP/1.1\r\n",
            b"PUT / HTTP/1.0\r\n", b"OPTIONS /events HTTP/1.1\r\nwebhook-request-origin: a\r\n",
            b"\r\n", b"\r\n\r\n", b"content-length: 3\r\n", b"content-length: 3000000\r\n",
            b"transfer-encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc",
            b"content-type: application/json\r\n", b"authorization: Bearer t0ken\r\n",
            b"content-type: application/cloudevents+json\r\n", b"ce-id: %ff\r\n", b"x: \xff\r\n",
            b"connection: upgrade\r\nupgrade: h2c\r\n", b"expect: 100-continue\r\n", b"\x00",
            b"CONNECT a:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ]
    ),
)  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_no_bytes_bring_the_gateway_down(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        loop = asyncio.get_running_loop()
        failures: list[object] = []
        loop.set_exception_handler(lambda _, context: failures.append(context))

        async def send(pieces: list[bytes]) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
            try:
                for piece in pieces:
                    writer.write(piece)
                writer.write_eof()
                async with asyncio.timeout(PATIENCE_S):
                    return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.transport.abort()

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.nested_given])
        @given(st.lists(PIECES, max_size=12))
        def check(pieces: list[bytes]) -> None:
            found = asyncio.run_coroutine_threadsafe(send(pieces), loop).result(2 * PATIENCE_S)
            assert b"HTTP/1.1 5" not in found

        await asyncio.to_thread(check)
        assert failures == []
        assert place.topic.events() == []
        await until(lambda: not place.server.connections)
        assert place.gateway._in_flight == place.gateway._in_flight_bytes == 0
        assert (await place.post("/signed", BODY, **signed(BODY))).status == 202

    at_place(tmp_path, use)
