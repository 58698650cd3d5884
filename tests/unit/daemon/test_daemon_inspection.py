"""rfsverify and rfsdiff between the operator, who may go away, and the worker, which may die."""

import asyncio

import pytest

from safepy.daemon import inspection
from safepy.daemon.inspection import Inspection
from safepy.errors import LocalFault, RequestRefused
from safepy.model import SyncMode
from safepy.worker import messages
from safepy.worker.messages import Difference


class Worker:
    """Notes the orders; takes none once it is `gone`."""

    def __init__(self) -> None:
        self.orders: list[messages.Order] = []
        self.gone = False

    def send(self, order: messages.Order) -> bool:
        if not self.gone:
            self.orders.append(order)
        return not self.gone


def differing(count: int, start: int = 0) -> list[Difference]:
    return [Difference(0, f"file{n}", "content") for n in range(start, start + count)]


async def test_differences_come_as_they_are_found_and_the_end_is_told() -> None:
    worker = Worker()
    mine = Inspection(worker.send)
    ended = []
    mine.on_over = ended.append
    run = mine.verify(5, "prim")
    assert worker.orders == [messages.Verify(5, run.number, "prim")]
    waiting = asyncio.create_task(mine.result(run.number, 0, 60))
    await asyncio.sleep(0)
    mine.heard(messages.VerifyProgress(5, run.number, 3, 100, differing(2)))
    assert (await waiting).found == 2
    waiting = asyncio.create_task(mine.result(run.number, 2, 60))
    await asyncio.sleep(0)
    assert not waiting.done()
    mine.heard(messages.VerifyDone(5, run.number, 9, 400))
    result = await waiting
    assert (result.over, result.files, result.bytes, result.problem) == (True, 9, 400, "")
    assert ended == [result]
    # Late words change nothing.
    mine.heard(messages.VerifyProgress(5, run.number, 99, 999, differing(5)))
    assert (result.files, result.found) == (9, 2)
    mine.worker_gone("killed")
    assert result.problem == ""


async def test_one_at_a_time_and_reports_of_another_run_do_not_count() -> None:
    mine = Inspection(Worker().send)
    run = mine.verify(5, "")
    with pytest.raises(RequestRefused, match="running already"):
        mine.verify(5, "")
    mine.heard(messages.VerifyDone(5, run.number + 1, 1, 1))
    assert not run.over
    mine.heard(messages.VerifyDone(5, run.number, 1, 1))
    assert mine.verify(5, "").number > run.number
    with pytest.raises(RequestRefused, match="not known"):
        await mine.result(run.number, 0, 0)


async def test_names_are_bounded_and_the_count_is_not() -> None:
    mine = Inspection(Worker().send)
    run = mine.verify(5, "")
    for start in range(0, inspection.DIFFERENCES_MAX + 500, 500):
        mine.heard(messages.VerifyProgress(5, run.number, 1, 1, differing(500, start)))
    assert (len(run.differences), run.found) == (
        inspection.DIFFERENCES_MAX,
        inspection.DIFFERENCES_MAX + 500,
    )


async def test_a_worker_that_dies_ends_what_was_asked() -> None:
    worker = Worker()
    mine = Inspection(worker.send)
    run = mine.verify(5, "")
    question = asyncio.create_task(mine.estimate(5, SyncMode.WALK, "a crash"))
    await asyncio.sleep(0)
    mine.worker_gone("ended by SIGKILL")
    assert run.problem == "the replication process ended: ended by SIGKILL"
    with pytest.raises(LocalFault, match="ended by SIGKILL"):
        await question
    worker.gone = True
    with pytest.raises(LocalFault, match="does not run"):
        mine.verify(5, "")
    with pytest.raises(LocalFault, match="does not run"):
        await mine.estimate(5, SyncMode.WALK, "a crash")


async def test_a_worker_that_says_nothing_and_an_operator_who_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker()
    mine = Inspection(worker.send)
    monkeypatch.setattr(inspection, "SILENCE_LIMIT_S", 0.05)
    run = mine.verify(5, "")
    result = await mine.result(run.number, 0, 60)
    assert result.over
    assert "no word of it" in result.problem
    assert worker.orders[-1] == messages.StopVerify(5, run.number)
    monkeypatch.setattr(inspection, "SILENCE_LIMIT_S", 60.0)
    monkeypatch.setattr(inspection, "ABANDONED_S", 0.05)
    run = mine.verify(5, "")
    for _ in range(400):
        if worker.orders[-1] == messages.StopVerify(5, run.number):
            break
        await asyncio.sleep(0.05)
    assert worker.orders[-1] == messages.StopVerify(5, run.number)
    assert not run.over  # the worker says when it has stopped


async def test_an_estimate() -> None:
    worker = Worker()
    mine = Inspection(worker.send)
    question = asyncio.create_task(mine.estimate(5, SyncMode.WALK, "a crash", 1_700_000_000.0))
    await asyncio.sleep(0)
    (order,) = worker.orders
    assert isinstance(order, messages.Estimate)
    assert (order.mode, order.reason, order.since) == ("walk", "a crash", 1_700_000_000.0)
    mine.heard(messages.Estimated(5, order.number + 1, "zones", "other", 0, 0, 0))
    answer = messages.Estimated(5, order.number, "walk", "because", 10, 3, 4096)
    mine.heard(answer)
    assert await question == answer
