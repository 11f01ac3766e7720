"""Runs ``p2pfl_node`` without Ray, which p2pfl starts when it is imported unless a setting of its own says no."""

import runpy

from p2pfl.settings import Settings

if __name__ == "__main__":
    Settings.general.DISABLE_RAY = True
    runpy.run_module("bench.peers.foreign.p2pfl_node", run_name="__main__", alter_sys=True)
