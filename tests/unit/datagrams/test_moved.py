"""A peer that is removed and added again at another address is reached there (proof of a defect in shell.py)."""
import msgspec
from pathlib import Path
from tests.unit.datagrams.loopback import SECRET, free_cluster, until
from appliance.datagrams.shell import Datagrams
from appliance.words.clock import system_clock
from appliance.words.settings import Cluster
import secrets

async def test_moved() -> None:
    both, elsewhere = free_cluster(2), free_cluster(2)
    moved = {"node0": both.members["node0"], "node1": elsewhere.members["node1"]}
    got: list[bytes] = []
    def make(cluster: Cluster, me: str, on):
        return Datagrams(cluster=cluster, me=me, secret=SECRET, on_message=on, clock=system_clock, random=secrets.token_bytes)
    async with make(both, "node0", lambda *_: None) as a, make(Cluster(name="test", members=moved), "node1", lambda s, c: got.append(c)) as b:
        a.set_members(moved)
        def reached() -> bool:
            a.send("node1", b"x")
            return bool(got)
        await until(reached, bound=5.0)
