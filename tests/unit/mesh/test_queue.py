"""The queue to one peer, and the log's throttle."""

import asyncio

from appliance.mesh.queue import Parcel, SendQueue
from appliance.mesh.throttle import Throttle
from appliance.words.ids import Monotonic


async def test_an_overflow_drops_the_oldest_and_counts() -> None:
    queue = SendQueue(10)
    for message in (b"1111", b"2222", b"3333"):
        queue.put(Parcel((message[:1], message[1:])))
    assert queue.dropped == 1
    assert [(await queue.get()).parts, (await queue.get()).parts] == [(b"2", b"222"), (b"3", b"333")]
    queue.put(Parcel((b"x" * 10,)))
    queue.put(Parcel((b"y" * 11,)))
    assert queue.dropped == 2
    assert (await queue.get()).parts == (b"x" * 10,)


async def test_drained_waits_until_the_last_message_is_dealt_with() -> None:
    queue = SendQueue(10)
    await queue.drained()
    queue.put(Parcel((b"1",)))
    assert (await queue.get()).parts == (b"1",)
    waiter = asyncio.create_task(queue.drained())
    await asyncio.sleep(0)
    assert not waiter.done(), "the message is taken, and not yet sent"
    taker = asyncio.create_task(queue.get())
    async with asyncio.timeout(5):
        await waiter
    queue.put(Parcel((b"2",)))
    assert (await taker).parts == (b"2",)


def test_the_throttle_allows_each_key_once_in_its_interval() -> None:
    throttle = Throttle(60.0)
    assert throttle.allows("a", Monotonic(0.0))
    assert not throttle.allows("a", Monotonic(59.9))
    assert throttle.allows("b", Monotonic(59.9))
    assert throttle.allows("a", Monotonic(60.0))


def test_the_throttle_forgets_the_oldest_key() -> None:
    throttle = Throttle(60.0)
    for number in range(1000):
        assert throttle.allows(number, Monotonic(0.0))
    assert throttle.allows(0, Monotonic(1.0))
    assert not throttle.allows(999, Monotonic(1.0))
