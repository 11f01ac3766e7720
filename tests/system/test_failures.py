"""What fails in a cluster's life, and what it comes to."""

import time

from tests.system.cluster import STATE, Cluster, say, show
from tests.system.guests import Guest, Lab, until


def test_the_leader_is_killed(cluster: Cluster) -> None:
    leader, term = cluster.wait_leader()
    version, rest = cluster.version(leader), cluster.others(leader)
    begin = time.monotonic()
    leader.run("systemctl kill --signal KILL p2pfl-node")
    successor, later = cluster.wait_another(rest, term)
    elected = time.monotonic() - begin
    cluster.wait_version(version + 2, rest)
    say(
        f"{leader.name} killed: {successor.name} leads term {later} as seen {elected:.1f} s later from outside, and "
        f"two more models are committed after {time.monotonic() - begin:.1f} s"
    )
    until(lambda: show(leader, "ActiveState")["ActiveState"] == "active", "systemd starts it again", 60)
    cluster.wait_version(version + 3)
    cluster.check_lineages()


def test_a_machine_loses_power_and_comes_back(cluster: Cluster) -> None:
    victim, _ = cluster.wait_leader()
    victim = next(guest for guest in (victim, *cluster.guests) if not guest.binds)
    rest, version = cluster.others(victim), cluster.version(victim)
    victim.power_off()
    cluster.wait_version(version + 2, rest)
    victim.boot()
    victim.wait_up()
    cluster.wait_version(version + 3)
    say(f"{victim.name} lost its power, the others went on, and it has all {cluster.check_lineages()} models")


def test_two_are_parted_from_three(lab: Lab, cluster: Cluster) -> None:
    leader, term = cluster.wait_leader()
    minority = [leader, cluster.others(leader)[0]]
    majority = cluster.others(*minority)
    lab.part(minority, majority)
    successor, later = cluster.wait_another(majority, term)
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
    guest.run(f"dd if=/dev/zero of={STATE}/filler bs=64k 2>/dev/null || true")
    text = until(lambda: _status_text(guest, "disk is full"), "a status that says so", 60)
    begin = cluster.version(cluster.others(guest)[0])
    cluster.wait_version(begin + 2, cluster.others(guest))
    restarts = show(guest, "NRestarts")["NRestarts"]
    assert show(guest, "ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    say(f"systemctl status of {guest.name}: {text[:150]}")
    guest.run(f"rm {STATE}/filler")
    until(lambda: not _status_text(guest, "disk is full"), "it is mended by itself", 90)
    cluster.wait_version(cluster.version(cluster.others(guest)[0]) + 1)
    said = "\n".join(entry["MESSAGE"] for entry in cluster.journal(guest)[-60:])
    assert show(guest, "NRestarts")["NRestarts"] == restarts, f"systemd had nothing to do:\n{said}"
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
