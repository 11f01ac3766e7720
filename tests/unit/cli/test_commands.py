"""The command line: what an operator gets wrong is one plain sentence on standard error; exit 1, or 2 for usage."""

import asyncio
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from rich.console import Console

from appliance.cli.logs import PriorityFormatter
from appliance.cli.main import main
from appliance.cli.status import duration, render
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.operator_api.views import NewMember, WaitingView
from appliance.words.ids import NodeName
from appliance.words.settings import Member
from tests.unit.operator_api.fake import ALONE, STATUS, FakeNode, free_port, served

WITH_CONFIG = ("run", "status", "check", "resign")


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _sentence(result: Result) -> str:
    """Return the one sentence of a failed command, which printed nothing else and no stack trace."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert isinstance(result.exception, SystemExit)
    return result.stderr.removeprefix("Error: ").rstrip("\n")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The folder of node0 in a cluster of two, whose operator port is free."""
    return create_cluster(tmp_path / "c", ClusterPlan(nodes=2, base_port=free_port() - 2))[0].parent


# --- help and usage ---------------------------------------------------------------------------------------------------


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(_commands(main)), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = _call(*path, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command.help
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, f"{path}: {parameter.name} has no help"


def test_the_promised_commands_are_there() -> None:
    promised = {"init", "run", "status", "check", "resign", "member", "model", "demo", "experiment", "pki"}
    assert promised <= set(main.commands)


def test_each_of_the_papers_experiments_is_there() -> None:
    group = main.commands["experiment"]
    assert isinstance(group, click.Group)
    assert set(group.commands) == {"table1", "learning-rate", "table2", "failover", "rotation"}


def test_the_version_is_told() -> None:
    result = _call("--version")
    assert (result.exit_code, result.stdout) == (0, "p2pfl-node, version 0.1.0\n")


@pytest.mark.parametrize(
    "arguments", [["dance"], ["status", "--colour"], ["check", "extra"], ["run", "--config"], ["init"], ["pki", "x"]]
)
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    result = _call(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", WITH_CONFIG)
def test_no_configuration(command: str, tmp_path: Path) -> None:
    sentence = _sentence(_call(command, "--config", tmp_path / "none.toml"))
    assert sentence == f"{tmp_path}/none.toml: can't be read (No such file or directory); give the file with --config"


@pytest.mark.parametrize("command", WITH_CONFIG)
def test_a_configuration_that_is_no_toml(command: str, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("node = node0\n")
    assert "node.toml: is not valid TOML: " in _sentence(_call(command, "--config", tmp_path / "node.toml"))


@pytest.mark.parametrize("command", WITH_CONFIG)
def test_a_configuration_with_a_typing_error(command: str, node: Path) -> None:
    file = node / "node.toml"
    file.write_text(file.read_text().replace("interval_s", "intervall_s"))
    sentence = _sentence(_call(command, "--config", file))
    assert sentence == f"{file}: rounds.intervall_s: is no key here; did you mean interval_s?"


# --- check ------------------------------------------------------------------------------------------------------------


def _check(node: Path) -> Result:
    return _call("check", "--config", node / "node.toml")


def test_a_new_cluster_can_start(node: Path) -> None:
    result = _check(node)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        "node0 of p2pfl can start; 2 members, quorum 2, strategy mean (bears no attacker), certificate good until 20"
        in result.stdout
    )


@pytest.mark.parametrize("name", ["tls/node.key"])
def test_a_secret_that_others_can_read_is_refused(node: Path, name: str) -> None:
    (node / name).chmod(0o644)
    sentence = _sentence(_check(node))
    assert sentence == f"{node / name}: others than its owner may read this secret; run: chmod 600 {node / name}"


@pytest.mark.parametrize("name", ["tls/ca.pem", "tls/node.pem", "tls/node.key"])
def test_a_missing_file_is_named(node: Path, name: str) -> None:
    (node / name).unlink()
    assert str(node / name) in _sentence(_check(node))


@pytest.mark.parametrize("name", ["tls/ca.pem", "tls/node.pem", "tls/node.key"])
def test_a_damaged_file_is_named(node: Path, name: str) -> None:
    (node / name).write_bytes(b"-----BEGIN RUBBISH-----\n\xff\n")
    assert str(node / name) in _sentence(_check(node))


def test_a_missing_initial_model_is_named(node: Path) -> None:
    with (node / "node.toml").open("a") as file:
        file.write('\n[training]\ninitial = "start.safetensors"\n')
    sentence = _sentence(_check(node))
    assert sentence == f"{node / 'node.toml'}: training.initial: {node / 'start.safetensors'} is not a file"


def test_a_foreign_certificate_is_refused(node: Path, tmp_path: Path) -> None:
    foreign = create_cluster(tmp_path / "other", ClusterPlan(nodes=1))[0].parent
    for name in ("node.pem", "node.key"):
        (node / "tls" / name).write_bytes((foreign / "tls" / name).read_bytes())
    assert "foreign certificate" in _sentence(_check(node))


def test_another_nodes_certificate_is_refused(node: Path) -> None:
    for name in ("node.pem", "node.key"):
        (node / "tls" / name).write_bytes((node.parent / "node1" / "tls" / name).read_bytes())
    sentence = _sentence(_check(node))
    assert "is the certificate of node1, and this node is node0" in sentence


def test_a_key_of_another_pair_is_refused(node: Path) -> None:
    (node / "tls" / "node.key").write_bytes((node.parent / "node1" / "tls" / "node.key").read_bytes())
    assert "does not belong to the certificate" in _sentence(_check(node))


def test_a_state_folder_that_is_a_file_is_refused(node: Path) -> None:
    (node / "state").rmdir()
    (node / "state").touch()
    assert f"{node / 'state'}" in _sentence(_check(node))


def test_a_state_folder_that_is_yet_to_be_made_is_fine(node: Path) -> None:
    (node / "state").rmdir()
    assert _check(node).exit_code == 0
    assert not (node / "state").exists(), "check changes nothing"


def test_data_that_is_not_there_is_named(node: Path) -> None:
    file = node / "node.toml"
    file.write_text(file.read_text().replace('source = "digits"', 'source = "mnist"\npath = "none"'))
    assert f"data.path: {node / 'none'} is not a folder" in _sentence(_check(node))


# --- status and resign ------------------------------------------------------------------------------------------------


async def _ask(node: Path, port: int, *arguments: str) -> Result:
    """Call a command for a node whose operator API is at a port, while the loop serves that API."""
    file = node / "node.toml"
    head, _, _ = file.read_text().partition("[operator]")
    file.write_text(f"{head}[operator]\nport = {port}\n")
    return await asyncio.to_thread(_call, *arguments, "--config", file)


@pytest.mark.parametrize("command", ["status", "resign"])
def test_nothing_runs(command: str, node: Path) -> None:
    sentence = _sentence(_call(command, "--config", node / "node.toml"))
    assert sentence.startswith("no answer from the node's operator API at 127.0.0.1:")
    assert "Connection refused" in sentence
    assert sentence.endswith("is the node running, and is this its configuration?")


async def test_status_of_a_leader(node: Path) -> None:
    async with served(FakeNode()) as port:
        result = await _ask(node, port, "status")
        assert result.exit_code == 0
        assert "leader of term 3, round 7, 1/2 peers up" in result.stdout
        as_json = await _ask(node, port, "status", "--json")
    assert as_json.exit_code == 0
    assert msgspec.json.decode(as_json.stdout, type=type(STATUS)) == STATUS


async def test_status_without_a_leader_is_exit_3(node: Path) -> None:
    fake = FakeNode()
    fake.state = ALONE
    async with served(fake) as port:
        result = await _ask(node, port, "status")
    assert result.exit_code == 3
    assert "no leader" in result.stdout
    assert "none is committed yet" in result.stdout


async def test_resign_waits_for_the_next_leader(node: Path) -> None:
    fake = FakeNode()
    async with served(fake) as port:
        result = await _ask(node, port, "resign")
        assert (result.exit_code, result.stdout) == (0, "node0 handed over to node1 (term 4)\n")
        fake.resign_problem = "there is no leader now"
        assert _sentence(await _ask(node, port, "resign")) == "there is no leader now"


async def test_members_are_listed_added_and_removed(node: Path) -> None:
    fake = FakeNode()
    async with served(fake) as port:
        assert (await _ask(node, port, "member", "list")).stdout.splitlines() == [
            "node0           10.0.0.1  mesh 7000, consensus 7001  votes",
            "node1           10.0.0.2  mesh 7010, consensus 7011  is catching up",
        ]
        added = await _ask(node, port, "member", "add", "node7", "--host", "10.0.0.7", "--mesh-port", "8000")
        assert (added.exit_code, added.stdout.splitlines()[-1]) == (0, "node7 votes")
        assert fake.membership.voters["node7"] == Member("10.0.0.7", 8000, 7001)
        removed = await _ask(node, port, "member", "remove", "node7")
        assert (removed.exit_code, removed.stdout) == (0, "node7 is no member any more; stop it\n")
        fake.member_problem = "node2 leads now; members are added and removed on the leader"
        assert _sentence(await _ask(node, port, "member", "remove", "node0")) == fake.member_problem
        wrong = await _ask(node, port, "member", "add", "node8", "--host", "a b")
        assert wrong.exit_code == 2
        assert "must be an IP address or a host's name" in wrong.stderr


async def test_a_member_that_does_not_catch_up_is_said(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.cli.member.CAUGHT_UP_WITHIN_S", 0.3)
    fake = FakeNode()

    async def stays_a_learner(new: NewMember) -> None:
        del new

    monkeypatch.setattr(fake, "add_member", stays_a_learner)
    async with served(fake) as port:
        result = await _ask(node, port, "member", "add", "node7", "--host", "10.0.0.7")
        assert result.exit_code == 1
        assert "node7 does not vote after 0 s: it does not answer; does it run at this address" in result.stderr
        assert "p2pfl-node member remove node7" in result.stderr
        network = msgspec.structs.replace(fake.state.network, unreachable={"node7": "Connection refused"})
        fake.state = msgspec.structs.replace(fake.state, network=network)
        result = await _ask(node, port, "member", "add", "node7", "--host", "10.0.0.7")
        assert "it does not answer (mesh: Connection refused); does" in result.stderr
        fake.state = msgspec.structs.replace(fake.state, peers={"node7": "up"})
        result = await _ask(node, port, "member", "add", "node7", "--host", "10.0.0.7")
        assert "it answers, and has not caught up yet; see its log" in result.stderr


async def test_a_removal_that_is_not_committed_is_no_removal(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.cli.member.REMOVED_WITHIN_S", 0.3)
    fake = FakeNode()

    async def no_majority(node: NodeName) -> None:
        del node

    monkeypatch.setattr(fake, "remove_member", no_majority)
    async with served(fake) as port:
        result = await _ask(node, port, "member", "remove", "node1")
    assert _sentence(result).startswith("node1 is not removed after 0 s: no majority has agreed;")


@pytest.mark.parametrize("body", ["<html>", "{}", '{"node": "node0"}', "\xff"])
async def test_another_program_on_the_port_is_said(node: Path, body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body.encode("latin-1"))

    application = web.Application()
    application.add_routes([web.get("/v1/status", answer)])
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        sentence = _sentence(await _ask(node, port, "status"))
    finally:
        await runner.cleanup()
    assert sentence.startswith(f"what answers at 127.0.0.1:{port} is no node of this version")


async def test_a_program_that_does_not_speak_http_is_said(node: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH_8.0\r\n")
        writer.close()
        await writer.wait_closed()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        sentence = _sentence(await _ask(node, port, "status"))
    assert sentence.startswith(
        f"no answer from the node's operator API at 127.0.0.1:{port} (what is there does not speak HTTP); "
    )


# --- how a status looks -----------------------------------------------------------------------------------------------


def _rendered(columns: int = 80) -> list[str]:
    waiting = [
        WaitingView(
            "aggregator",
            "waiting for updates of round 7: 2 of 9 (quorum 5); node3 and node4 down for 40 s " * 2,
            4.0,
            5e4,
        ),
        WaitingView(
            "participant", "update refused ([/red] is no [bold]markup[/x]), waiting for the next round", 1e6, None
        ),
    ]
    many = {f"node{number}": "up" if number % 2 else "down" for number in range(30)}
    state = msgspec.structs.replace(
        STATUS, waiting=waiting, peers=many, faults=["state: /var/lib/p2pfl-node/models: No space left on device [28]"]
    )
    out = io.StringIO()
    Console(file=out, width=columns, highlight=False).print(render(state))
    return out.getvalue().splitlines()


def test_a_status_fits_a_terminal_of_80_columns() -> None:
    lines = _rendered()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert STATUS.model is not None
    assert any(STATUS.model.digest.removeprefix("sha256:") in line for line in lines), "the digest is in one piece"


def test_a_model_that_was_withheld_or_came_back_is_said() -> None:
    assert STATUS.model is not None
    out = io.StringIO()
    for changes in ({"withheld": "its accuracy is 0.7100"}, {"rolled_back_to": 3}):
        state = msgspec.structs.replace(STATUS, model=msgspec.structs.replace(STATUS.model, **changes))
        Console(file=out, width=80, highlight=False).print(render(state))
    assert "the last round's model is not published: its accuracy is 0.7100" in out.getvalue()
    assert "rolled back to version 3" in out.getvalue()


def test_what_others_said_is_no_markup() -> None:
    text = " ".join(" ".join(_rendered()).split())
    assert "update refused ([/red] is no [bold]markup[/x]), waiting for the next round" in text
    assert "No space left on device [28]" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (40.4, "40 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (7199.0, "119 min"),
        (7200.0, "2 h 0 min"),
        (86_000.0, "23 h 53 min"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- the log ----------------------------------------------------------------------------------------------------------


def test_each_line_for_the_journal_carries_its_priority() -> None:
    """sd-daemon(3): a line without one would be taken as informational, whatever went wrong."""
    formatter = PriorityFormatter("%(message)s")
    lines = {
        logging.CRITICAL: "<2>a\n<2>b",
        logging.ERROR: "<3>a\n<3>b",
        logging.WARNING: "<4>a\n<4>b",
        logging.INFO: "<6>a\n<6>b",
        logging.DEBUG: "<7>a\n<7>b",
    }
    for level, expected in lines.items():
        assert formatter.format(logging.makeLogRecord({"levelno": level, "msg": "a\nb"})) == expected


@pytest.mark.parametrize(("thread", "status"), [("threading.Event().wait", 0), ("int", 3)])
def test_a_thread_that_does_not_end_holds_nothing_up(thread: str, status: int) -> None:
    """Left to the interpreter, PyTorch's threads abort a process that ended well."""
    program = (
        "import threading; from appliance.cli.run import leave; "
        f"thread = threading.Thread(target={thread}, daemon=True); thread.start(); thread.join(1); leave(); exit(3)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == status
