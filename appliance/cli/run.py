"""``p2pfl-node run``: the daemon, in the foreground."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import click

from appliance.cli.options import config_option
from appliance.node.config import Config, load

_M_ARENA_MAX = -8  # malloc.h
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


@click.command(short_help="Run the node, in the foreground.")
@config_option
def run(file: Path) -> None:
    """Run the node in the foreground until SIGTERM or Ctrl-C; a second one ends it at once."""
    config = load(file)
    _set_up_logging(config)
    _keep_memory_together()
    asyncio.run(_run(config))
    leave()


async def _run(config: Config) -> None:
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
    await run_node(config, stop)


def leave() -> None:
    """End the process at once if a thread still trains, though it was asked to stop and given its time.

    All that counts is durable by now, and to take PyTorch down beneath that thread would abort the process.
    """
    if threading.active_count() > 1:
        logging.shutdown()
        os._exit(0)


class _JournalFormatter(logging.Formatter):
    """One event a line with its priority in front (sd-daemon(3)); the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in super().format(record).splitlines())


def _set_up_logging(config: Config) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=config.logging.level.upper(), handlers=[handler])
    # asyncio logs at INFO and below what only its own developers need.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _keep_memory_together() -> None:
    """Let the threads share two of glibc's arenas: with one each, freed models stay behind in all of them (15 MB)."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_ARENA_MAX, 2)
