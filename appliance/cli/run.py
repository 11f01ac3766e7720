"""``p2pfl-node run``: the daemon, in the foreground."""

import asyncio
import ctypes
import logging
import os
import signal
import threading
from pathlib import Path

import click

from appliance.cli import logs
from appliance.cli.options import config_option
from appliance.node.config import load
from appliance.operator_api.client import NodeApi
from appliance.systemd.journal import JournalHandler

_M_ARENA_MAX = -8  # malloc.h


@click.command(short_help="Run the node, in the foreground.")
@config_option
def run(file: Path) -> None:
    """Run the node in the foreground until SIGTERM or Ctrl-C; a second one ends it at once. SIGHUP: as reload."""
    journal = logs.set_up(load(file).logging.level)
    _keep_memory_together()
    asyncio.run(_run(file, journal))
    leave()


@click.command(short_help="Have the node read its configuration again.")
@config_option
def reload(file: Path) -> None:
    """Have the running node read its configuration file again, and say what that changes."""
    found = NodeApi(load(file).operator).reload()
    for change in found.applied:
        click.echo(change)
    for key in found.at_restart:
        click.echo(f"{key}: takes effect when the node starts again (systemctl restart p2pfl-node)", err=True)
    if not found.applied and not found.at_restart:
        click.echo("nothing has changed")


async def _run(file: Path, journal: JournalHandler | None) -> None:
    # PyTorch takes a second to load: the other commands don't wait for it.
    from appliance.node.wiring import run as run_node  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        logging.getLogger(__name__).info("%s: stopping", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the node is there to heed it
    await run_node(load(file), stop, reread=lambda: load(file), journal=journal)


def leave() -> None:
    """End the process at once if a thread still trains, though it was asked to stop and given its time.

    All that counts is durable by now, and to take PyTorch down beneath that thread would abort the process.
    """
    if threading.active_count() > 1:
        logging.shutdown()
        os._exit(0)


def _keep_memory_together() -> None:
    """Let the threads share two of glibc's arenas: with one each, freed models stay behind in all of them (15 MB)."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_ARENA_MAX, 2)
