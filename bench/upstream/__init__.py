"""Upstream raftos 0.2.6 beside this project's consensus: the faults reported of it, run against both.

    make .venv/upstream/raftos
    PYTHONPATH=.venv/upstream python -m bench.upstream [--kills 10] [--without-processes]

Upstream's own classes run, unchanged but for what ``appliance.datagrams.raftos_shim`` injects. ``sides`` drives both
in one process, message by message; ``faults`` tells one story to each; ``files`` and ``wire`` look at what lies on the
disk and what comes from the network; ``failover`` kills leaders among real processes (``member``). Prints a Markdown
table, of which each cell is put together from what a run saw.
"""
