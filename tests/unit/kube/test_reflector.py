"""The reflector against a server that does everything a server may do to a watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from omni_operator.kube.kinds import Resource
from omni_operator.kube.reflector import JsonDecoder, Reflector
from tests.unit.kube.fake_api import FakeApi, Watch, event, eventually, status, thing

THINGS = Resource("Thing", "example.com/v1", "things")


@dataclass(frozen=True)
class Seen:
    namespace: str
    name: str
    resource_version: str


def decode(raw: dict[str, Any]) -> Seen:
    meta = raw["metadata"]
    return Seen(meta["namespace"], meta["name"], meta["resourceVersion"])


class Harness:
    def __init__(self, api: FakeApi, reflector: Reflector[Seen], changes: list[tuple[str | None, str | None]]) -> None:
        self.api, self.reflector, self.changes = api, reflector, changes
        self.task: asyncio.Task[None] | None = None

    def names(self) -> set[str]:
        return {it.name for it in self.reflector}

    async def start(self) -> Watch:
        self.task = asyncio.create_task(self.reflector.run())
        return await self.next_watch()

    async def next_watch(self) -> Watch:
        return await asyncio.wait_for(self.api.watches.get(), 10)


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    changes: list[tuple[str | None, str | None]] = []

    def changed(old: Seen | None, new: Seen | None) -> None:
        changes.append((old and old.name + old.resource_version, new and new.name + new.resource_version))

    async with FakeApi() as api, api.client() as kube:
        it = Harness(
            api,
            Reflector(kube=kube, resource=THINGS, decoder=JsonDecoder(decode), changed=changed, label_selector="a=b"),
            changes,
        )
        yield it
        assert it.task is not None
        assert not it.task.done(), "a reflector must not end"
        it.task.cancel()
        await asyncio.gather(it.task, return_exceptions=True)
        while not api.watches.empty():
            api.watches.get_nowait().close()


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omni_operator.kube.reflector.random.random", lambda: 0.0)


async def test_all_pages_are_listed_before_it_is_synced(harness: Harness) -> None:
    harness.api.objects = {name: thing(name, 1) for name in "abcde"}
    watch = await harness.start()
    assert harness.reflector.synced.is_set()
    assert harness.names() == set("abcde")
    assert [query.get("continue") for _, _, query in harness.api.seen] == [None, "2", "4", None]
    assert watch.query["resourceVersion"] == "10"
    assert watch.query["allowWatchBookmarks"] == "true"
    assert watch.query["labelSelector"] == harness.api.seen[0][2]["labelSelector"] == "a=b"
    watch.close()


async def test_the_pages_of_a_list_are_seen_at_one_time(harness: Harness) -> None:
    """A read between two pages would see a new server with the workers of before the outage."""
    asked: list[int] = []
    harness.reflector.changed = lambda _, __: asked.append(len(harness.api.seen))
    harness.api.objects = {name: thing(name, 1) for name in "abcde"}
    watch = await harness.start()
    assert asked == [3] * 5
    watch.close()


async def test_events_change_the_store(harness: Harness) -> None:
    harness.api.objects = {"a": thing("a", 1)}
    watch = await harness.start()
    watch.send(event("MODIFIED", thing("a", 11)), event("ADDED", thing("b", 12)), event("DELETED", thing("a", 13)))
    await eventually(lambda: harness.names() == {"b"})
    assert harness.changes == [(None, "a1"), ("a1", "a11"), (None, "b12"), ("a11", None)]
    watch.close()


async def test_a_line_in_two_pieces_is_one_event(harness: Harness) -> None:
    watch = await harness.start()
    line = event("ADDED", thing("a", 11))
    watch.send(line[:20])
    await asyncio.sleep(0.05)
    watch.send(line[20:] + event("ADDED", thing("b", 12))[:-1])
    await eventually(lambda: harness.names() == {"a"})
    watch.send(b"\n\n")
    await eventually(lambda: harness.names() == {"a", "b"})
    watch.close()


async def test_a_watch_that_ends_goes_on_where_it_was_without_a_list(harness: Harness) -> None:
    watch = await harness.start()
    watch.send(event("ADDED", thing("a", 11)), event("BOOKMARK", {"metadata": {"resourceVersion": "40"}}))
    watch.close()
    resumed = await harness.next_watch()
    assert resumed.query["resourceVersion"] == "40"
    assert harness.names() == {"a"}
    assert harness.api.lists() == 1
    resumed.close()


async def test_a_cut_stream_goes_on_where_it_was(harness: Harness) -> None:
    watch = await harness.start()
    watch.send(event("ADDED", thing("a", 11)), event("ADDED", thing("b", 12))[:30])
    await eventually(lambda: harness.names() == {"a"})
    watch.close()  # with half a line in the air
    resumed = await harness.next_watch()
    assert resumed.query["resourceVersion"] == "11"
    assert harness.api.lists() == 1
    resumed.close()


@pytest.mark.parametrize("how", ["event", "answer"])
async def test_410_lists_anew_and_removes_what_vanished(harness: Harness, how: str) -> None:
    harness.api.objects = {name: thing(name, 1) for name in "abc"}
    watch = await harness.start()
    harness.api.objects, harness.api.version = {"b": thing("b", 1), "c": thing("c", 30), "d": thing("d", 31)}, 50
    if how == "event":
        watch.send(event("ERROR", status(410, "Expired", "too old")))
    else:
        harness.api.refuse(410, reason="Expired")
        watch.close()
    resumed = await harness.next_watch()
    assert resumed.query["resourceVersion"] == "50"
    assert harness.names() == set("bcd")
    assert harness.changes[3:] == [("c1", "c30"), (None, "d31"), ("a1", None)]
    resumed.close()


async def test_endless_410_is_not_an_endless_storm(harness: Harness) -> None:
    watch = await harness.start()
    harness.api.refuse(*[410] * 500)
    watch.close()
    await asyncio.sleep(0.5)
    assert 2 < len(harness.api.seen) < 12
    harness.api.fail.clear()
    (await harness.next_watch()).close()


BAD = {
    "torn line": b'{"type": "ADDED", "object": {"meta\n',
    "no json": b"<html>502 Bad Gateway</html>\n",
    "a list": b"[]\n",
    "null": b"null\n",
    "no object": b'{"type": "ADDED"}\n',
    "an error without a status": b'{"type": "ERROR", "object": null}\n',
    "an object without metadata": event("ADDED", {"metadata": None}),
    "an error in words": event("ERROR", status(500, "Internal", "etcd")),
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD)
async def test_what_cannot_be_read_leads_to_a_list(harness: Harness, line: bytes) -> None:
    watch = await harness.start()
    harness.api.objects, harness.api.version = {"a": thing("a", 20)}, 30
    watch.send(event("ADDED", thing("b", 11)), line)
    (await harness.next_watch()).close()
    assert harness.names() == {"a"}
    assert harness.api.lists() == 2


async def test_an_own_write_that_is_newer_than_a_list_stays(harness: Harness) -> None:
    """The list was answered before the write; until the watch brings it, it must not be missing."""
    watch = await harness.start()
    harness.reflector.upsert(thing("mine", 120))
    harness.api.objects, harness.api.version = {"a": thing("a", 20)}, 100
    watch.send(b"no json\n")
    (await harness.next_watch()).close()
    assert harness.names() == {"a", "mine"}


async def test_watches_that_end_at_once_are_begun_with_pauses(harness: Harness) -> None:
    watch = await harness.start()
    begun = asyncio.get_running_loop().time()
    for _ in range(4):
        watch.close()
        watch = await harness.next_watch()
    assert asyncio.get_running_loop().time() - begun > 0.5
    watch.close()


async def test_an_outage_at_the_start_is_survived(harness: Harness) -> None:
    harness.api.objects = {"a": thing("a", 1)}
    harness.api.refuse(500, 503, reason="Internal")
    harness.api.fail.append((0, {}, b""))
    harness.api.fail.append((200, {}, b"not json"))
    watch = await harness.start()
    assert harness.names() == {"a"}
    watch.close()


async def test_a_refused_watch_is_tried_again(harness: Harness) -> None:
    watch = await harness.start()
    harness.api.refuse(500, 403, 429)
    watch.close()
    (await harness.next_watch()).close()
    assert not harness.api.fail


async def test_a_kind_that_is_not_installed_counts_as_empty_until_it_is(harness: Harness) -> None:
    harness.api.refuse(404, reason="NotFound")
    harness.task = asyncio.create_task(harness.reflector.run())
    await asyncio.wait_for(harness.reflector.synced.wait(), 5)
    assert harness.reflector.missing
    watch = await harness.next_watch()
    assert not harness.reflector.missing
    watch.close()


async def test_a_cut_now_and_then_does_not_add_up(harness: Harness) -> None:
    """A load balancer that ends every stream after a while must not make the store stale."""
    watch = await harness.start()
    for number in range(12):
        watch.send(event("ADDED", thing("a", 100 + number)), b"cut\n")
        async with asyncio.timeout(2):  # twelve failures in a row would wait half a minute
            watch = await harness.next_watch()
    watch.close()


async def test_an_own_write_is_known_at_once_and_older_news_do_not_undo_it(harness: Harness) -> None:
    watch = await harness.start()
    harness.reflector.upsert(thing("a", 20))
    watch.send(event("ADDED", thing("a", 15)), event("MODIFIED", thing("a", 20)), event("ADDED", thing("b", 21)))
    await eventually(lambda: harness.names() == {"a", "b"})
    assert harness.changes == [(None, "a20"), (None, "b21")]
    harness.reflector.remove("ns", "a")
    harness.reflector.remove("ns", "unknown")
    assert harness.names() == {"b"}
    watch.close()


async def test_lists_ask_for_pages(harness: Harness) -> None:
    watch = await harness.start()
    assert int(harness.api.seen[0][2]["limit"]) > 0
    assert json.loads(watch.query["timeoutSeconds"]) > 60
    watch.close()


async def test_the_answer_to_an_own_write_puts_no_ghost_back(harness: Harness) -> None:
    """The answer may arrive after the watch's DELETED, and nothing would remove the object then."""
    watch = await harness.start()
    harness.reflector.upsert(thing("a", 20))
    watch.send(event("DELETED", thing("a", 21)))
    await eventually(lambda: harness.names() == set())
    harness.reflector.upsert(thing("a", 20))
    assert harness.names() == set()
    harness.reflector.upsert(thing("a", 22))  # made anew
    assert harness.names() == {"a"}


async def test_the_answer_is_kept_out_after_a_relist_as_well(harness: Harness) -> None:
    watch = await harness.start()
    harness.reflector.upsert(thing("a", 9))
    harness.reflector._version = ""
    watch.close()
    await harness.next_watch()
    assert harness.names() == set(), "the list lacks it"
    harness.reflector.upsert(thing("a", 9))
    assert harness.names() == set()


async def test_what_a_broken_watch_left_behind_goes_with_the_next_list(harness: Harness) -> None:
    harness.reflector.relist_seconds = 0.0
    harness.api.objects = {"a": thing("a", 5)}
    watch = await harness.start()
    assert harness.names() == {"a"}
    harness.api.objects = {}  # its DELETED was lost
    watch.close()
    await harness.next_watch()
    assert harness.names() == set()
