"""Messages as long as a model: they wait in files, are not copied, and are held no longer than they are needed."""

import errno
import weakref
from pathlib import Path

import pytest

from appliance.mesh import body
from appliance.mesh.body import Body, Spool
from appliance.storage.spool import SpoolFile
from appliance.words.errors import DiskFullError
from appliance.words.messages import HandedOn, ResignWanted, Sealed
from tests.unit.mesh.town import Town, until

LONG = 64 * 1024


class Buffer(bytearray):
    """Bytes of which one can tell whether anybody has them."""


@pytest.fixture(autouse=True)
def _short_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "LONG_BYTES", LONG)


def spool_in(folder: Path) -> Spool:
    return lambda: SpoolFile(folder)


def mapped(folder: Path) -> int:
    """Return how many files of a folder this process has mapped."""
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize(("length", "files"), [(1, 0), (LONG - 1, 0), (LONG, 1), (3 * LONG, 1)])
async def test_a_long_message_goes_into_a_file_and_a_short_one_into_memory(
    tmp_path: Path, length: int, files: int
) -> None:
    content = bytes(number % 251 for number in range(length))
    arriving = Body(length, spool_in(tmp_path))
    for start in range(0, length, 1000):
        await arriving.write(content[start : start + 1000])
    held = arriving.content()
    assert held == content
    assert mapped(tmp_path) == files
    del arriving, held
    assert mapped(tmp_path) == 0


async def test_without_a_spool_it_stays_in_memory(tmp_path: Path) -> None:
    arriving = Body(LONG, None)
    await arriving.write(bytes(LONG))
    assert arriving.content() == bytes(LONG)
    assert mapped(tmp_path) == 0


async def test_a_long_envelope_arrives_in_a_file_that_is_gone_with_the_message(town: Town, tmp_path: Path) -> None:
    folder = tmp_path / "arriving"
    folder.mkdir()
    envelope = bytes(number % 251 for number in range(3 * LONG))
    async with town.mesh("node0", spool=spool_in(folder)), town.mesh("node1") as sender:
        for kind in (Sealed, HandedOn):
            sender.send("node0", kind(memoryview(town.envelope(envelope))))
        inbox = await town.inboxes["node0"].holds(2)
        assert [message for _, message in inbox] == [
            kind(memoryview(town.envelope(envelope))) for kind in (Sealed, HandedOn)
        ]
        assert mapped(folder) == 2
        inbox.clear()
        await until(lambda: mapped(folder) == 0)


async def test_a_node_without_space_says_so_and_the_sender_learns_that_it_was_not_delivered(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        def write(self, _: bytes) -> None:
            raise DiskFullError(f"can't write in /state: {errno.ENOSPC}")

        def content(self) -> memoryview:
            raise AssertionError("nothing was written")

    undelivered: list[int] = []
    async with town.mesh("node0", spool=Full), town.mesh("node1") as sender:
        sender.send("node0", Sealed(memoryview(town.envelope(bytes(LONG)))), lambda: undelivered.append(1))
        await until(lambda: undelivered == [1])
        assert sender.unreachable == {"node0": "it has no space left for a message of this size"}
        sender.send("node0", ResignWanted(1))
        assert await town.inboxes["node0"].holds(1) == [("node1", ResignWanted(1))]
    assert "this node: can't write in /state" in caplog.text


async def test_a_link_holds_no_message_that_it_has_sent(town: Town) -> None:
    """The next message to a peer may come an hour later, and this one may be as large as a model."""
    async with town.mesh("node0"), town.mesh("node1") as sender:
        buffer = Buffer(town.envelope(bytes(LONG)))
        held = weakref.ref(buffer)
        sender.send("node0", Sealed(memoryview(buffer)))
        del buffer
        await town.inboxes["node0"].holds(1)
        await until(lambda: held() is None)
