"""The appliance from installation to upgrade, as an operator and an attacker see it from outside. In this order."""

import time

from tests.system.cluster import PKI, Cluster, show
from tests.system.guests import CONTROL, Guest, Lab, sh, until
from tests.system.repository import VERSIONS

MOST_EXPOSED = 1.5


def say(sentence: str) -> None:
    """Print what a check saw."""
    print(f"\n    {sentence}")


def others(cluster: Cluster, *but: Guest) -> list[Guest]:
    return [guest for guest in cluster.guests if guest not in but]


def test_dnf_installs_it(cluster: Cluster) -> None:
    cluster.create_authority()
    begin = time.monotonic()
    for guest in cluster.guests:
        cluster.install(guest)
    say(f"dnf installed p2pfl-node on five machines, one after another, in {time.monotonic() - begin:.1f} s")
    guest = cluster.guests[0]
    size = int(guest.run("rpm -q --qf '%{SIZE}' p2pfl-node"))
    say(f"installed size {size:,} bytes; {guest.run('dnf --version | head -1').strip()}, {guest.run('rpm --version')}")
    assert guest.run("rpm -V p2pfl-node || true") == ""
    assert guest.run("rpm -q --qf '%{SIGPGP:pgpsig}%{RSAHEADER:pgpsig}' p2pfl-node").count("RSA/SHA256") == 1
    assert "p2pfl-node" in guest.run("getent passwd p2pfl-node")
    assert guest.run("stat -c '%a %U' /etc/p2pfl-node/pki /var/lib/p2pfl-node").split() == ["700", "p2pfl-node"] * 2
    assert guest.run("systemctl is-enabled p2pfl-node || true").strip() == "disabled", "nothing starts by itself"


def test_it_is_configured_and_started(cluster: Cluster) -> None:
    begin = time.monotonic()
    for guest in cluster.guests:
        cluster.enrol(guest)
        assert guest.run(f"stat -c '%a %U' {PKI}/node.key").strip() == "600 p2pfl-node"
        cluster.configure(guest)
    for guest in cluster.guests:
        guest.run("systemctl enable --quiet --now p2pfl-node")
    leader, term = cluster.wait_leader()
    say(f"{leader.name} leads term {term}, {time.monotonic() - begin:.1f} s after the first command")
    cluster.wait_version(2)
    say(f"round 2 is committed on all; {show(leader, 'StatusText')['StatusText']}")
    for guest in cluster.guests:
        state = show(guest, "ActiveState", "NRestarts", "StatusText")
        assert (state["ActiveState"], state["NRestarts"]) == ("active", "0")
        assert "in term" in state["StatusText"] or "of term" in state["StatusText"]


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
    peer = others(cluster, leader)[0].name
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


def test_the_leader_is_killed(cluster: Cluster) -> None:
    leader, term = cluster.wait_leader()
    version, rest = cluster.version(leader), others(cluster, leader)
    begin = time.monotonic()
    leader.run("systemctl kill --signal KILL p2pfl-node")
    successor, later = until(lambda: _another(cluster, rest, term), "another leader", 60)
    elected = time.monotonic() - begin
    cluster.wait_version(version + 2, rest)
    say(
        f"{leader.name} killed: {successor.name} leads term {later} as seen {elected:.1f} s later from outside, and "
        f"two more models are committed after {time.monotonic() - begin:.1f} s"
    )
    until(lambda: show(leader, "ActiveState")["ActiveState"] == "active", "systemd starts it again", 60)
    cluster.wait_version(version + 3)
    cluster.check_lineages()


def _another(cluster: Cluster, among: list[Guest], than: int) -> tuple[Guest, int] | None:
    found = cluster.leader(among)
    return found if found is not None and found[1] > than else None


def test_a_machine_loses_power_and_comes_back(cluster: Cluster) -> None:
    victim, _ = cluster.wait_leader()
    victim = next(guest for guest in (victim, *cluster.guests) if not guest.binds)
    rest, version = others(cluster, victim), cluster.version(victim)
    victim.power_off()
    cluster.wait_version(version + 2, rest)
    victim.boot()
    victim.wait_up()
    cluster.wait_version(version + 3)
    say(f"{victim.name} lost its power, the others went on, and it has all {cluster.check_lineages()} models")


def test_two_are_parted_from_three(lab: Lab, cluster: Cluster) -> None:
    leader, term = cluster.wait_leader()
    minority = [leader, others(cluster, leader)[0]]
    majority = others(cluster, *minority)
    lab.part(minority, majority)
    successor, later = until(lambda: _another(cluster, majority, term), "a leader of the three", 60)
    version = cluster.version(successor)
    cluster.wait_version(version + 2, majority)
    behind = cluster.version(leader)
    assert behind < version + 2, "two of five have committed something"
    lab.heal()
    cluster.wait_version(version + 3)
    length = cluster.check_lineages()
    say(
        f"three went on under {successor.name} (term {later}), two stood still at version {behind}; healed: "
        f"{length} models, the same on all"
    )


def test_a_full_disk(lab: Lab, cluster: Cluster) -> None:
    guest = lab.guests[4]
    # As the kernel's root, since the last blocks of a file system are root's.
    guest.run("dd if=/dev/zero of=/var/lib/p2pfl-node/filler bs=64k 2>/dev/null || true")
    text = until(lambda: _status_text(guest, "disk is full"), "a status that says so", 60)
    begin = cluster.version(others(cluster, guest)[0])
    cluster.wait_version(begin + 2, others(cluster, guest))
    restarts = show(guest, "NRestarts")["NRestarts"]
    say(f"systemctl status of {guest.name}: {text[:150]}")
    guest.run("rm /var/lib/p2pfl-node/filler")
    until(lambda: not _status_text(guest, "disk is full"), "it is mended by itself", 90)
    cluster.wait_version(cluster.version(others(cluster, guest)[0]) + 1)
    assert show(guest, "NRestarts")["NRestarts"] == restarts, "systemd did nothing"
    cluster.check_lineages()


def _status_text(guest: Guest, part: str) -> str:
    text = show(guest, "StatusText")["StatusText"]
    return text if part in text else ""


def test_the_watchdog_ends_a_stopped_process(cluster: Cluster) -> None:
    guest = cluster.guests[1]
    before = int(show(guest, "NRestarts")["NRestarts"])
    begin = time.monotonic()
    guest.run("kill -STOP $(systemctl show -p MainPID --value p2pfl-node)")
    until(lambda: int(show(guest, "NRestarts")["NRestarts"]) > before, "a restart", 90)
    found = guest.run("journalctl -q -u p2pfl-node --no-pager | grep -c 'Watchdog timeout' || true")
    assert int(found) >= 1
    say(f"stopped by SIGSTOP: systemd's watchdog ended it, and it started again {time.monotonic() - begin:.1f} s later")
    cluster.wait_leader()


CLOCK = """
[Service]
Environment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1
Environment=FAKETIME_TIMESTAMP_FILE=/etc/p2pfl-node/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
"""


def test_the_clock_jumps_by_a_day(cluster: Cluster) -> None:
    """A guest can't set its clock: a preloaded library shows another one to the service alone."""
    guest = cluster.guests[0]
    folder = "/etc/systemd/system/p2pfl-node.service.d"
    guest.run(f"mkdir -p {folder}; cat >{folder}/clock.conf <<'END'\n{CLOCK}\nEND\necho +0 >/etc/p2pfl-node/clock")
    guest.run("systemctl daemon-reload; systemctl restart p2pfl-node")
    leader, term = cluster.wait_leader()
    version, before = cluster.version(guest), _days_left(cluster, guest)
    guest.run("echo +1d >/etc/p2pfl-node/clock")
    after = until(lambda: (days := _days_left(cluster, guest)) < before - 0.9 and days, "another time in it", 20)
    cluster.wait_version(version + 5)
    assert cluster.wait_leader() == (leader, term), "nothing else happened"
    assert show(guest, "NRestarts")["NRestarts"] == "0", "a restart by hand has set the count to 0"
    say(
        f"{guest.name} is a day ahead ({before} and then {after} days left of its certificate); {leader.name} still "
        f"leads term {term}, and five more models are committed"
    )
    guest.run(f"rm -r {folder}; systemctl daemon-reload; systemctl restart p2pfl-node")
    cluster.wait_leader()


def _days_left(cluster: Cluster, guest: Guest) -> float:
    state = cluster.status(guest)
    return float("inf") if state is None else float(state["certificate"]["expires_in_days"])


def test_a_node_is_removed_and_another_added(cluster: Cluster) -> None:
    leader, _ = cluster.wait_leader()
    guest = others(cluster, leader)[0]
    rest = others(cluster, guest)
    assert f"{guest.name} is no member" in leader.run(f"p2pfl-node member remove {guest.name}")
    guest.run("systemctl stop p2pfl-node")
    version = cluster.version(leader)
    cluster.wait_version(version + 2, rest)
    # As a new machine would: nothing of the old one's state, and it waits to be let in.
    guest.run("rm -r /var/lib/p2pfl-node/*; sed -i '/^name = /a join = true' /etc/p2pfl-node/node.toml")
    begin = time.monotonic()
    guest.run("systemctl start p2pfl-node")
    leader, _ = cluster.wait_leader(rest)
    said = leader.run(f"p2pfl-node member add {guest.name} --host {guest.address}")
    assert f"{guest.name} votes" in said
    cluster.wait_version(version + 4)
    say(
        f"{guest.name} removed, and added as a new machine: it votes and has all {cluster.check_lineages()} models "
        f"{time.monotonic() - begin:.1f} s after its start"
    )


def test_restarts_one_after_another_lose_nothing(cluster: Cluster) -> None:
    before = cluster.lineage(cluster.guests[0])
    for guest in cluster.guests:
        guest.run("systemctl restart p2pfl-node")
        cluster.wait_leader()
    cluster.wait_version(len(before))
    assert cluster.lineage(cluster.guests[0])[: len(before)] == before
    say(f"all five restarted, one after another: the {len(before)} models before are there, and rounds go on")


def test_a_rolling_upgrade(cluster: Cluster) -> None:
    before = cluster.lineage(cluster.guests[0])
    for guest in cluster.guests:
        guest.run(f"echo '# mine' >>/etc/p2pfl-node/node.toml; dnf upgrade -y -q p2pfl-node-{VERSIONS[1]}")
        cluster.wait_leader()
        state = until(lambda guest=guest: cluster.status(guest), "an answer", 30)  # type: ignore[misc]
        assert state["version"] == VERSIONS[1], "the running service is the new one"
        assert "# mine" in guest.run("cat /etc/p2pfl-node/node.toml")
    cluster.wait_version(len(before))
    assert cluster.lineage(cluster.guests[0])[: len(before)] == before
    say(f"from {VERSIONS[0]} to {VERSIONS[1]}, one after another, with rounds under way: no model lost")


def test_a_downgrade_and_a_removal_keep_state_and_keys(cluster: Cluster) -> None:
    guest = cluster.guests[2]
    guest.run(f"dnf downgrade -y -q p2pfl-node-{VERSIONS[0]}")
    state = until(lambda: cluster.status(guest), "an answer", 60)
    assert state["version"] == VERSIONS[0]
    guest.run("dnf remove -y -q p2pfl-node")
    assert guest.run("systemctl is-active p2pfl-node || true").strip() == "inactive"
    kept = guest.run(f"ls {PKI} /var/lib/p2pfl-node /etc/p2pfl-node")
    assert {"node.key", "consensus", "models"} <= set(kept.split())
    say(f"removed: {' '.join(kept.split())} are kept")
    cluster.wait_leader(others(cluster, guest))


def test_nothing_reached_the_outside(cluster: Cluster) -> None:
    """The guests' way out is this machine's end of the bridge, in a network namespace that leads nowhere."""
    assert "default via" in cluster.guests[0].run("ip route")
    assert sh("ip", "-o", "route", "show", "default") == ""
    say(f"no route leads from {CONTROL} out of this run's network namespace")
