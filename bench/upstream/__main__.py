"""Run all, and print the table."""

import argparse
import asyncio
import logging
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from appliance.datagrams.raftos_shim import load
from appliance.words.errors import OperatorError
from appliance.words.settings import Consensus
from bench.upstream import failover, files, wire
from bench.upstream.faults import STORIES, Story
from bench.upstream.sides import Ours, Side, Theirs

Run = Callable[[Path], Awaitable[str]]
Row = tuple[str, Run, Run]
"""What happens, and how it is run on upstream and on ours, each in a folder of its own."""

TIMINGS = {
    "our default timing": Consensus(heartbeat_interval_s=0.1, election_timeout_s=0.5),
    "upstream's default timing": Consensus(heartbeat_interval_s=0.3, election_timeout_s=1.5),
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.upstream", description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="leaders killed, each way")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which they are killed")
    parser.add_argument("--without-processes", action="store_true", help="leave the kills out")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # both complain, rightly, about what is done to them
    try:
        raftos = load()
    except OperatorError as error:
        sys.exit(f"{error}\nFor this benchmark: make .venv/upstream/raftos, and PYTHONPATH=.venv/upstream")
    rows = _rows(raftos)
    if not arguments.without_processes:
        rows += [_failover_row(name, timing, arguments.kills, arguments.seed) for name, timing in TIMINGS.items()]
    asyncio.run(_print_table(rows))


def _rows(raftos: Any) -> list[Row]:
    rows = [_story_row(raftos, *entry) for entry in STORIES]
    rows.append(
        (
            f"7. a log of one entry is read again, terms 1 to {files.TERMS}, default serializer",
            _plain(lambda folder: files.their_log_read_again(raftos, folder)),
            _plain(files.our_log_read_again),
        )
    )
    rows.append(
        (
            "12. datagrams: an outsider's, a member's, and that one sent again",
            _plain(lambda _: wire.theirs(raftos)),
            _plain(lambda _: wire.ours()),
        )
    )
    rows.append(
        (
            "13. disk full while term and vote are written; then while an entry is",
            _plain(lambda folder: files.their_full_disk(raftos, folder)),
            _plain(files.our_full_disk),
        )
    )
    return rows


def _story_row(raftos: Any, title: str, nodes: int, story: Story) -> Row:
    async def tell(side: Side) -> str:
        try:
            return await story(side)
        finally:
            side.close()

    return title, lambda folder: tell(Theirs(raftos, folder, nodes)), lambda folder: tell(Ours(folder, nodes))


def _plain(scenario: Callable[[Path], str]) -> Run:
    async def run(folder: Path) -> str:
        return scenario(folder)

    return run


def _failover_row(name: str, timing: Consensus, kills: int, seed: int) -> Row:
    return (
        f"11. five processes, kill -9 of the leader, {name} "
        f"({timing.heartbeat_interval_s:g} s, {timing.election_timeout_s:g} s)",
        lambda folder: failover.measure("raftos", folder, timing, kills, seed),
        lambda folder: failover.measure("p2pfl", folder, timing, kills, seed),
    )


async def _print_table(rows: list[Row]) -> None:
    print(f"Python {platform.python_version()}, {platform.system()}\n")
    print("| What happens | raftos 0.2.6 | ours |\n|---|---|---|")
    for title, theirs, ours in sorted(rows, key=lambda row: int(row[0].split(".")[0])):
        print(f"| {title} | {await _cell(theirs)} | {await _cell(ours)} |", flush=True)


async def _cell(run: Run) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return await run(Path(folder))
        except Exception as error:  # a scenario that can't be run says so in its cell
            return f"could not be run: {type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
