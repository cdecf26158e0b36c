"""What a worker needs of its machine before it starts."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from edo_stream.engine.process import TakenError, claim_directory, claim_directory_of_a_leaver


def test_a_worker_waits_for_the_one_before_it_to_leave(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        before = claim_directory(tmp_path)
        claiming = asyncio.create_task(claim_directory_of_a_leaver(tmp_path, 30.0))
        await asyncio.sleep(0)
        assert not claiming.done()
        os.close(before)
        os.close(await claiming)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert f"waiting 30 s at most: {tmp_path} is in use by another worker" in caplog.text


def test_a_worker_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def run() -> None:
        before = claim_directory(tmp_path)
        with pytest.raises(TakenError, match="EDO_DATA"):
            await claim_directory_of_a_leaver(tmp_path, 0.0)
        os.close(before)

    asyncio.run(run())
