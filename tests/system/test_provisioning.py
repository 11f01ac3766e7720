"""From five bare machines to rounds: the playbook, and what it leaves, as an operator and an attacker see it."""

import re

from tests.system.cluster import PKI, STATE, Cluster, say, show
from tests.system.control import Control
from tests.system.guests import Guest, sh
from tests.system.repository import URL

MOST_EXPOSED = 1.5


def leaders_named(output: str) -> dict[str, tuple[str, int]]:
    """Return whom each node said it followed, and in which term: a busy machine's first leader need not last."""
    found = re.findall(r"ok: \[(\w+)\] => *\n +msg: (?:leader of|follower of (\w+) in) term (\d+),", output)
    return {name: (whom or name, int(term)) for name, whom, term in found}


def test_the_playbooks_are_clean(control: Control) -> None:
    say(f"ansible-lint: {control.lint()}")


def test_the_playbook_provisions_five_machines(control: Control, cluster: Cluster) -> None:
    for guest in cluster.guests:
        guest.run(f"rpm -i --quiet {URL}/el8-provides-8.10-1.noarch.rpm 2>/dev/null")
    done = control.play("site.yml")
    said = leaders_named(done.output)
    assert said.keys() == {guest.name for guest in cluster.guests}, "every node says whom it follows"
    leader, term = cluster.wait_leader()
    led = cluster.leaders()
    assert led[term] == {leader.name}
    for name, (whom, when) in said.items():
        assert led[when] == {whom}, f"{name} named {whom} in term {when}, and the nodes remember {led}"
    cluster.wait_version(2)
    say(f"site.yml, first run: {done.seconds:.1f} s, {done.changed} changes; leaders by term: {led}")
    for guest in cluster.guests:
        state = show(guest, "ActiveState", "NRestarts", "UnitFileState")
        assert state == {"ActiveState": "active", "NRestarts": "0", "UnitFileState": "enabled"}
    installed = int(cluster.guests[4].run("rpm -q --qf '%{INSTALLTIME}' p2pfl-node"))
    first = cluster.journal(leader, "P2PFL_ROUND=1")
    committed = next(int(entry["__REALTIME_TIMESTAMP"]) for entry in first if "is committed" in entry["MESSAGE"])
    say(f"from the package's installation on node5 to the first committed round: {committed / 1e6 - installed:.0f} s")


def test_a_second_run_changes_nothing(control: Control, cluster: Cluster) -> None:
    processes = [show(guest, "MainPID") for guest in cluster.guests]
    done = control.play("site.yml")
    assert done.changed == 0, done.output
    assert [show(guest, "MainPID") for guest in cluster.guests] == processes
    say(f"site.yml, second run: {done.seconds:.1f} s, no changes, and the processes are the same")


def test_what_dnf_installed(cluster: Cluster) -> None:
    guest = cluster.guests[0]
    size = int(guest.run("rpm -q --qf '%{SIZE}' p2pfl-node"))
    say(f"installed size {size:,} bytes; {guest.run('dnf --version | head -1').strip()}, {guest.run('rpm --version')}")
    changed = guest.run("rpm -V p2pfl-node || true").splitlines()
    assert [line.split()[-1] for line in changed] == ["/etc/p2pfl-node/node.toml"], "only node.toml is not as packaged"
    assert guest.run("rpm -q --qf '%{SIGPGP:pgpsig}%{RSAHEADER:pgpsig}' p2pfl-node").count("RSA/SHA256") == 1
    assert "p2pfl-node" in guest.run("getent passwd p2pfl-node")
    assert guest.run(f"stat -c '%a %U' {PKI} {STATE}").split() == ["700", "p2pfl-node"] * 2


def test_keys_stay_where_they_were_made(control: Control, cluster: Cluster) -> None:
    for guest in cluster.guests:
        assert guest.run(f"stat -c '%a %U' {PKI}/node.key").strip() == "600 p2pfl-node"
    files = [path for path in control.kept.rglob("*") if path.is_file()]
    keys = [path.name for path in files if b"PRIVATE KEY" in path.read_bytes()]
    assert keys == ["ca.key"]
    say(f"of {len(files)} files on the control machine only {keys[0]} is a private key")


def test_it_is_hardened_and_still_works(cluster: Cluster) -> None:
    guest = cluster.guests[0]
    said = guest.run("systemd-analyze security --no-pager p2pfl-node | tail -1")
    exposure = float(next(word for word in said.split() if word.replace(".", "").isdigit()))
    say(f"systemd-analyze security: {said.strip().lstrip('→ ')}")
    assert exposure <= MOST_EXPOSED
    version = cluster.version(guest)
    cluster.wait_version(version + 1)


def test_the_firewall_lets_members_in_and_nobody_else(cluster: Cluster) -> None:
    guest, member = cluster.guests[0], cluster.guests[1]
    assert member.can_connect(guest, 7000)
    for port in (7001, 7002, 8000):
        assert not member.can_connect(guest, port), f"TCP {port} is open to a member"
    for port in (7000, 7001, 7002):
        assert not _control_reaches(guest, port), f"TCP {port} is open to the control machine"
    assert _control_reaches(guest, 22), "the control machine reaches what is open to it, so the above means something"
    rules = guest.run("firewall-cmd --list-rich-rules").splitlines()
    allowed = {(other.address, port) for other in cluster.others(guest) for port in ("7000", "7001")}
    assert {(rule.split('"')[3], rule.split('"')[5]) for rule in rules} == allowed, rules
    assert guest.run("firewall-cmd --list-ports; firewall-cmd --list-services | grep p2pfl || true").strip() == ""
    say("members reach TCP 7000 and nothing else; the control machine reaches 22 and none of 7000, 7001, 7002")


def _control_reaches(guest: Guest, port: int) -> bool:
    return "open" in sh("bash", "-c", f"timeout 2 bash -c '</dev/tcp/{guest.address}/{port}' && echo open", check=False)


def test_the_journal_has_fields(cluster: Cluster) -> None:
    leader, _ = cluster.wait_leader()
    found = cluster.journal(leader, "P2PFL_ROUND=1")
    assert found, "journalctl -u p2pfl-node P2PFL_ROUND=1 finds nothing"
    committed = [entry for entry in found if "is committed" in entry["MESSAGE"]]
    assert committed[0]["PRIORITY"] == "6"
    assert committed[0]["P2PFL_NODE"] == leader.name
    assert int(committed[0]["P2PFL_TERM"]) >= 1
    peer = cluster.others(leader)[0].name
    assert any("is up" in entry["MESSAGE"] for entry in cluster.journal(leader, f"P2PFL_PEER={peer}"))
    everything = cluster.journal(leader)
    assert not any("PRIVATE KEY" in str(entry["MESSAGE"]) for entry in everything)
    say(f"journalctl P2PFL_ROUND=1: {committed[0]['MESSAGE']}")


def test_reload_applies_what_can_change(cluster: Cluster) -> None:
    guest = cluster.guests[0]
    pid = show(guest, "MainPID")
    guest.run("sed -i 's/^interval_s = .*/interval_s = 0.5/' /etc/p2pfl-node/node.toml; systemctl reload p2pfl-node")
    assert any("rounds.interval_s: 1.0 -> 0.5" in str(entry["MESSAGE"]) for entry in cluster.journal(guest))
    guest.run("sed -i 's/^interval_s = .*/intervall_s = 1/' /etc/p2pfl-node/node.toml")
    assert "refused" in guest.run("systemctl reload p2pfl-node 2>/dev/null || echo refused")
    guest.run("sed -i 's/^intervall_s = .*/interval_s = 1.0/' /etc/p2pfl-node/node.toml; systemctl reload p2pfl-node")
    assert show(guest, "MainPID") == pid, "it is the same process"
    say("systemctl reload applied rounds.interval_s, and refused a file with an unknown key; the process is the same")


def test_nothing_reaches_the_outside(cluster: Cluster) -> None:
    """The guests' way out is this machine's end of the bridge, in a network namespace that leads nowhere."""
    assert "default via" in cluster.guests[0].run("ip route")
    assert sh("ip", "-o", "route", "show", "default") == ""
    say("no route leads out of this run's network namespace")
