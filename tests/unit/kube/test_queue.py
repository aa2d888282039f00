"""The keyed queue; time is looptime's, so a minute of back-off takes no time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from omni_operator.kube.queue import KeyedQueue, Priority

pytestmark = pytest.mark.looptime


async def drain(queue: KeyedQueue) -> list[str]:
    found = []
    while len(queue):
        found.append(await queue.get())
        queue.done(found[-1])
    return found


async def test_a_key_waits_once() -> None:
    queue = KeyedQueue()
    for _ in range(3):
        queue.add("a")
    queue.add("b")
    assert await drain(queue) == ["a", "b"]


async def test_edits_go_before_events_and_events_before_resync() -> None:
    queue = KeyedQueue()
    queue.add("resync", priority=Priority.RESYNC)
    queue.add("event")
    queue.add("edit", priority=Priority.EDIT)
    assert await drain(queue) == ["edit", "event", "resync"]


async def test_a_waiting_key_can_rise_but_not_sink() -> None:
    queue = KeyedQueue()
    queue.add("a", priority=Priority.RESYNC)
    queue.add("b", priority=Priority.EVENT)
    queue.add("a", priority=Priority.EDIT)
    queue.add("a", priority=Priority.RESYNC)
    assert await drain(queue) == ["a", "b"]


async def test_what_is_added_during_work_comes_again_after_it_and_not_before() -> None:
    queue = KeyedQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a", priority=Priority.RESYNC)
    queue.add("a", priority=Priority.EDIT)
    assert len(queue) == 0
    assert not queue.idle()
    queue.done("a")
    queue.add("b")
    assert await drain(queue) == ["a", "b"]
    assert queue.idle()


async def test_get_waits_for_a_key() -> None:
    queue = KeyedQueue()
    asyncio.get_running_loop().call_later(5, queue.add, "a")
    assert await asyncio.wait_for(queue.get(), 6) == "a"
    assert asyncio.get_running_loop().time() == pytest.approx(5, abs=1e-5)


async def test_two_workers_never_have_one_key() -> None:
    queue, busy, seen = KeyedQueue(), set[str](), list[str]()

    async def work() -> None:
        while True:
            key = await queue.get()
            assert key not in busy
            busy.add(key)
            seen.append(key)
            await asyncio.sleep(1)
            busy.remove(key)
            queue.done(key)

    async def add() -> None:
        for number in range(60):
            queue.add("abc"[number % 3], priority=Priority(number % 3))
            await asyncio.sleep(0.1)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    await add()
    await asyncio.sleep(5)
    assert queue.idle()
    assert set(seen) == set("abc")
    for worker in workers:
        assert not worker.done()
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_waiting_workers_get_different_keys() -> None:
    queue = KeyedQueue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(1)
    for key in "abc":
        queue.add(key)
    assert sorted(await asyncio.gather(*waiting)) == ["a", "b", "c"]


async def test_of_two_timers_the_earlier_counts_and_only_it() -> None:
    queue = KeyedQueue()
    for seconds in (10, 3, 20):
        queue.add_after("a", seconds)
    assert await queue.get() == "a"
    queue.done("a")
    assert asyncio.get_running_loop().time() == pytest.approx(3, abs=1e-5)
    await asyncio.sleep(100)
    assert queue.idle()


async def test_failures_back_off_to_a_minute_and_a_success_forgets_them() -> None:
    queue, delays = KeyedQueue(), list[float]()
    for _ in range(12):
        before = asyncio.get_running_loop().time()
        delay = queue.retry("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert asyncio.get_running_loop().time() - before == pytest.approx(delay, abs=1e-5)
        delays.append(delay)
    bounds = [min(60.0, 0.25 * 2**count) for count in range(12)]
    assert all(bound / 2 <= delay <= bound for delay, bound in zip(delays, bounds, strict=True))
    queue.forget("a")
    assert queue.retry("a") <= 0.25
    assert queue.retry("b") <= 0.25
    queue.close()


async def test_a_key_may_fail_for_ever() -> None:
    """A pipeline whose child is refused for a day fails over a thousand times."""
    queue = KeyedQueue()
    delays = [queue.retry("a") for _ in range(1100)]
    assert 30 <= delays[-1] <= 60
    queue.close()


async def test_close_cancels_timers() -> None:
    queue = KeyedQueue()
    queue.add_after("a", 1)
    queue.close()
    await asyncio.sleep(10)
    assert queue.idle()


class _Model(RuleBasedStateMachine):
    """In any order of add, get and done every key is handed out, and never twice at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.wanted, self.active = KeyedQueue(), set[str](), set[str]()

    @rule(key=st.sampled_from("abc"), priority=st.sampled_from(Priority))
    def add(self, key: str, priority: Priority) -> None:
        self.queue.add(key, priority=priority)
        self.wanted.add(key)

    @precondition(lambda self: self.wanted - self.active)
    @rule()
    def get(self) -> None:
        with pytest.raises(StopIteration) as found:  # how a coroutine that need not wait returns
            self.queue.get().send(None)
        assert found.value.value in self.wanted - self.active
        self.wanted.remove(found.value.value)
        self.active.add(found.value.value)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.active)))
        self.queue.done(key)
        self.active.remove(key)

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.wanted - self.active)


TestModel = _Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30)
