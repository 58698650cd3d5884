"""One answer for all who ask at about the same time."""

import asyncio

import pytest

from safepy.checkers.shared import Shared
from safepy.errors import LocalFault


class Source:
    def __init__(self) -> None:
        self.asked = 0
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def find_out(self) -> int:
        self.asked += 1
        number = self.asked
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return number


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_all_who_ask_together_get_one_answer_and_later_ones_another() -> None:
    source = Source()
    shared = Shared(source.find_out, "it", max_age_s=0.05, limit_s=5)
    asking = [asyncio.ensure_future(shared.since(now())) for _ in range(20)]
    await asyncio.sleep(0.01)
    source.open.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert await shared.since(0) == 1
    await asyncio.sleep(0.06)
    assert await shared.since(0) == 2


async def test_what_began_before_the_moment_is_not_believed() -> None:
    source = Source()
    shared = Shared(source.find_out, "it", max_age_s=60, limit_s=5)
    early = asyncio.ensure_future(shared.since(now()))
    await asyncio.sleep(0.01)
    late = asyncio.ensure_future(shared.since(now()))
    await asyncio.sleep(0.01)
    assert source.asked == 1  # never two at the same time
    source.open.set()
    assert (await early, await late) == (1, 2)


async def test_one_that_hangs_is_not_begun_twice_and_its_answer_counts_when_it_comes() -> None:
    source = Source()
    shared = Shared(source.find_out, "it", max_age_s=60, limit_s=0.05)
    for _ in range(3):
        with pytest.raises(LocalFault, match=r"it: no answer within 0\.05 s"):
            await shared.since(0)
    assert source.asked == 1
    source.open.set()
    assert await shared.since(0) == 1


async def test_an_error_reaches_all_and_is_forgotten() -> None:
    source = Source()
    source.error = LocalFault("no")
    source.open.set()
    shared = Shared(source.find_out, "it", max_age_s=0.0, limit_s=5)
    results = await asyncio.gather(shared.since(0), shared.since(0), return_exceptions=True)
    assert [str(each) for each in results] == ["no", "no"]
    source.error = None
    assert await shared.since(now()) > 1


async def test_who_goes_away_takes_nothing_from_the_others() -> None:
    source = Source()
    shared = Shared(source.find_out, "it", max_age_s=60, limit_s=5)
    first = asyncio.ensure_future(shared.since(0))
    second = asyncio.ensure_future(shared.since(0))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.open.set()
    assert await second == 1
