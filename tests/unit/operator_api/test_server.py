"""The contract with scripts (design.md, section 5), over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.operator_api.server import operator_api
from appliance.words.errors import OperatorError
from appliance.words.settings import Operator
from tests.unit.operator_api.fake import ALONE, DIGEST, WEIGHTS, FakeNode, served

PROMISED = {
    *("node", "role", "term", "leader", "participant", "aggregator", "round", "model", "peers", "period_left_s"),
    *("ready", "version"),
}
"""The keys of design.md, section 5."""


@pytest.fixture
def node() -> FakeNode:
    """A leader with one peer up."""
    return FakeNode()


@pytest.fixture
async def api(node: FakeNode) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the node's API."""
    async with served(node) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


async def test_status_has_every_key_that_scripts_rely_on(api: aiohttp.ClientSession, node: FakeNode) -> None:
    async with api.get("/v1/status") as answer:
        assert answer.content_type == "application/json"
        status = await answer.json()
    assert set(status) >= PROMISED
    assert {"version", "digest", "accuracy", "loss"} <= set(status["model"])
    assert (status["node"], status["role"], status["term"], status["leader"]) == ("node0", "leader", 3, "node0")
    assert status["peers"] == {"node1": "up", "node2": "down"}
    assert (status["participant"], status["aggregator"], status["ready"]) == ("active", "active", True)
    node.state = ALONE
    async with api.get("/v1/status") as answer:
        status = await answer.json()
    assert set(status) >= PROMISED
    assert (status["leader"], status["model"], status["period_left_s"], status["ready"]) == (None, None, None, False)


async def test_lineage_oldest_first_and_elections(api: aiohttp.ClientSession) -> None:
    async with api.get("/v1/lineage") as answer:
        lineage = await answer.json()
    assert [entry["version"] for entry in lineage] == [0, 1]
    promised = {"version", "round", "term", "digest", "updates", "samples", "accuracy", "loss", "committed_at"}
    assert all(promised <= set(entry) for entry in lineage)
    async with api.get("/v1/elections") as answer:
        assert answer.content_type == "application/json"
        [change] = await answer.json()
    assert set(change) == {"at", "term", "node", "from", "to"}


async def test_the_model_comes_once(api: aiohttp.ClientSession, node: FakeNode) -> None:
    async with api.get("/v1/model") as answer:
        assert (answer.status, await answer.read()) == (200, WEIGHTS)
        etag = answer.headers["ETag"]
    assert etag == f'"{DIGEST}"'
    async with api.get("/v1/model", headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read(), answer.headers["ETag"]) == (304, b"", etag)
    async with api.get("/v1/model", headers={"If-None-Match": '"sha256:another"'}) as answer:
        assert (answer.status, await answer.read()) == (200, WEIGHTS)
    node.stored = None
    async with api.get("/v1/model") as answer:
        assert answer.status == 404
        assert "no global model" in await answer.text()


async def test_healthz_is_for_load_balancers(api: aiohttp.ClientSession, node: FakeNode) -> None:
    async with api.get("/healthz") as answer:
        assert (answer.status, await answer.text()) == (200, "leader of term 3, round 7, 1/2 peers up\n")
    node.state = ALONE
    async with api.get("/healthz") as answer:
        assert answer.status == 503
        assert "no leader" in await answer.text()


async def test_members_are_told_added_and_removed(api: aiohttp.ClientSession, node: FakeNode) -> None:
    async with api.get("/v1/members") as answer:
        assert await answer.json() == {
            "voters": {"node0": {"host": "10.0.0.1", "mesh_port": 7000, "consensus_port": 7001}},
            "learners": {"node1": {"host": "10.0.0.2", "mesh_port": 7010, "consensus_port": 7011}},
        }
    async with api.post("/v1/members", json={"node": "node7", "host": "10.0.0.7"}) as answer:
        assert answer.status == 202
    assert "node7" in node.membership.voters
    async with api.delete("/v1/members/node7") as answer:
        assert answer.status == 202
    assert "node7" not in node.membership.voters


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"node": "NO", "host": "h"}', b'{"node": "n"}', b'{"node": "n", "host": ""}',
     b'{"node": "n", "host": "two words"}',
     b'{"node": "n", "host": "h", "mesh_port": 0}', b'{"node": "n", "host": "h", "x": 1}'],
)  # fmt: skip
async def test_what_is_no_member_is_refused(api: aiohttp.ClientSession, node: FakeNode, body: bytes) -> None:
    before = node.membership
    async with api.post("/v1/members", data=body) as answer:
        assert (answer.status, (await answer.text())[:13]) == (400, "not a member:")
    assert node.membership == before


async def test_a_member_may_come_in_pieces_and_not_without_end(api: aiohttp.ClientSession, node: FakeNode) -> None:
    arrived = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"node": "node7", '
        async with api.get("/healthz"):  # answered on another connection, after the first piece was sent
            arrived.set()
        yield b'"host": "10.0.0.7"}'

    async with api.post("/v1/members", data=pieces()) as answer:
        assert (answer.status, arrived.is_set()) == (202, True)
    assert "node7" in node.membership.voters
    async with api.post("/v1/members", data=b" " * 5000 + b'{"node": "node8", "host": "10.0.0.8"}') as answer:
        assert answer.status == 413
    assert "node8" not in node.membership.voters


async def test_a_refused_change_says_why(api: aiohttp.ClientSession, node: FakeNode) -> None:
    node.member_problem = "node2 leads now; members are added and removed on the leader"
    async with api.post("/v1/members", json={"node": "node7", "host": "10.0.0.7"}) as answer:
        assert (answer.status, await answer.text()) == (409, node.member_problem + "\n")
    async with api.delete("/v1/members/node0") as answer:
        assert (answer.status, await answer.text()) == (409, node.member_problem + "\n")


async def test_resign_is_passed_on_or_refused_with_a_reason(api: aiohttp.ClientSession, node: FakeNode) -> None:
    async with api.post("/v1/resign") as answer:
        assert answer.status == 202
    node.resign_problem = "there is no leader now"
    async with api.post("/v1/resign") as answer:
        assert (answer.status, await answer.text()) == (409, "there is no leader now\n")
    assert node.asked_to_resign == 2


async def test_a_web_page_can_make_the_node_do_nothing(api: aiohttp.ClientSession, node: FakeNode) -> None:
    async with api.post("/v1/resign", headers={"Origin": "http://evil.example"}) as answer:
        assert answer.status == 403
    async with api.get("/v1/resign") as answer:
        assert answer.status == 405
    assert node.asked_to_resign == 0


@pytest.mark.parametrize("name", ["evil.example", "evil.example:7002", "127.0.0.1.evil.example", "a b", "[", "::1"])
async def test_a_web_page_under_a_name_of_its_own_can_read_nothing(api: aiohttp.ClientSession, name: str) -> None:
    """DNS rebinding: evil.example resolves to 127.0.0.1, and the page reads what it may: its own origin."""
    for path in ("/v1/model", "/v1/status", "/metrics"):
        async with api.get(path, headers={"Host": name}) as answer:
            assert answer.status in {400, 403}
            assert WEIGHTS not in await answer.read()


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:1", "127.0.0.1:7002", "[::1]:7002", "[::1]", "10.1.2.3", ""])
async def test_addresses_and_localhost_are_answered(api: aiohttp.ClientSession, name: str) -> None:
    async with api.get("/healthz", headers={"Host": name.lower()}) as answer:
        assert answer.status == 200


async def test_an_api_that_was_opened_to_the_network_answers_to_any_name() -> None:
    async with served(FakeNode(), "0.0.0.0") as port, aiohttp.ClientSession() as session:  # noqa: S104 - the case
        url = f"http://127.0.0.1:{port}/healthz"
        async with session.get(url, headers={"Host": "node0.example.org"}) as answer:
            assert answer.status == 200


async def test_metrics_are_what_prometheus_reads(api: aiohttp.ClientSession, node: FakeNode) -> None:
    async def scrape() -> dict[tuple[str, ...], float]:
        async with api.get("/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain")
            families = list(text_string_to_metric_families(await answer.text()))
        assert all(family.documentation and family.name.startswith("p2pfl_") for family in families)
        return {
            (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
        }

    found = await scrape()
    assert found["p2pfl_term",] == 3
    assert found["p2pfl_leader",] == 1
    assert found["p2pfl_round",] == 7
    assert found["p2pfl_model_version",] == 6
    assert found["p2pfl_model_accuracy_ratio",] == 0.97
    assert found["p2pfl_peer_up", "node1"] == 1
    assert found["p2pfl_peer_up", "node2"] == 0
    assert found["p2pfl_turns", "node0"] == 2
    assert found["p2pfl_waiting_seconds", "aggregator"] == 40
    assert found["p2pfl_mesh_messages_lost", "node2"] == 7
    assert found["p2pfl_consensus_datagrams_refused", "strangers"] == 1
    node.state = ALONE
    found = await scrape()
    assert found["p2pfl_ready",] == 0
    assert ("p2pfl_model_version",) not in found
    assert ("p2pfl_period_left_seconds",) not in found


async def test_an_unknown_path_is_not_found(api: aiohttp.ClientSession) -> None:
    async with api.get("/v1/keys") as answer:
        assert answer.status == 404


async def test_a_port_in_use_names_the_key(node: FakeNode) -> None:
    async with served(node) as port:
        with pytest.raises(OperatorError) as refusal:
            async with operator_api(Operator(port=port), node):
                raise AssertionError("it must not serve")
    assert str(refusal.value).startswith(f"operator.port: 127.0.0.1:{port} can't be opened (")
    assert "choose another port" in str(refusal.value)
    # And the first one's port is free again.
    async with operator_api(Operator(port=port), node):
        pass


async def test_json_is_whole_json(api: aiohttp.ClientSession) -> None:
    for path in ("/v1/status", "/v1/lineage", "/v1/elections"):
        async with api.get(path) as answer:
            json.loads(await answer.read(), parse_constant=pytest.fail)


# --- committed models -------------------------------------------------------------------------------------------------


async def test_a_model_by_version_or_by_digest(api: aiohttp.ClientSession, node: FakeNode) -> None:
    digest = node.entries[1].digest
    node.bytes = {digest: WEIGHTS}
    for which in ("1", digest):
        async with api.get(f"/v1/models/{which}") as answer:
            assert (answer.status, await answer.read()) == (200, WEIGHTS)
            assert answer.headers["ETag"] == f'"{digest}"'
    for which in ("0", "x", "..%2F..%2Fetc%2Fpasswd"):
        async with api.get(f"/v1/models/{which}") as answer:
            assert answer.status == 404
            assert (await answer.text()).endswith("are not on this node\n")
    async with api.get("/v1/models") as answer:
        assert [(entry["version"], entry["here"]) for entry in await answer.json()] == [(0, False), (1, True)]


async def test_a_rollback_is_asked_for_and_refused(api: aiohttp.ClientSession, node: FakeNode) -> None:
    async with api.post("/v1/rollback", json={"version": 0}) as answer:
        assert answer.status == 202
    assert node.entries[-1].rolled_back_to == 0
    wrong: list[object] = [{}, {"version": -1}, {"version": 0, "force": True}, {"version": "0"}, []]
    for body in wrong:
        async with api.post("/v1/rollback", json=body) as answer:
            assert answer.status == 400
            assert (await answer.text()).startswith("not a rollback: ")
    async with api.post("/v1/rollback", json={"version": 0}, headers={"Origin": "http://a.example"}) as answer:
        assert answer.status == 403
    node.member_problem = "node2 leads now; models are rolled back on the leader"
    async with api.post("/v1/rollback", json={"version": 0}) as answer:
        assert (answer.status, await answer.text()) == (409, node.member_problem + "\n")
