"""What an operator does over the years, by the playbooks, while rounds go on."""

from tests.system.cluster import CONFIGURATION, PKI, STATE, Cluster, say, show
from tests.system.control import Control
from tests.system.guests import Guest, until
from tests.system.repository import URL, VERSIONS


def test_a_changed_setting_restarts_one_after_another(control: Control, cluster: Cluster) -> None:
    before = cluster.lineage(cluster.guests[0])
    control.settings["consensus"] = {"period_s": 43200.0}
    # Five nodes on two cores do little else with a round a second, and from here on it is playbooks that take the time.
    control.settings["rounds"]["interval_s"] = 5.0
    done = control.play("site.yml")
    assert done.changed == 2 * len(cluster.guests), "each: the file, and a restart"
    cluster.check_kept(before)
    starts = [show(guest, "ExecMainStartTimestampMonotonic") for guest in cluster.guests]
    assert control.play("site.yml").changed == 0
    assert [show(guest, "ExecMainStartTimestampMonotonic") for guest in cluster.guests] == starts
    say(f"site.yml with another consensus.period_s: {done.seconds:.1f} s; all {len(before)} models are there")


def test_restarts_one_after_another_lose_nothing(control: Control, cluster: Cluster) -> None:
    before = cluster.lineage(cluster.guests[0])
    done = control.play("rolling_restart.yml")
    assert done.changed == len(cluster.guests)
    cluster.check_kept(before)
    say(f"rolling_restart.yml: {done.seconds:.1f} s; the {len(before)} models before are there, and rounds go on")


def test_certificates_are_renewed_while_they_run(control: Control, cluster: Cluster) -> None:
    assert control.play("renew_certificates.yml").changed == 0, "they last longer than 90 days"
    serials, process = (
        [_serial(guest) for guest in cluster.guests],
        [show(guest, "MainPID") for guest in cluster.guests],
    )
    done = control.play("renew_certificates.yml", p2pfl_node_renew_within_days="1000")
    assert all(new != old for new, old in zip([_serial(guest) for guest in cluster.guests], serials, strict=True))
    assert [show(guest, "MainPID") for guest in cluster.guests] == process, "no node was restarted"
    version = cluster.version(cluster.guests[0])
    cluster.wait_version(version + 2)
    say(f"renew_certificates.yml: {done.seconds:.1f} s, five new certificates, no restart")


def _serial(guest: Guest) -> str:
    return guest.run(f"sha256sum {PKI}/node.pem {PKI}/node.key")


def test_a_lost_machine_is_removed_and_a_new_one_added(control: Control, cluster: Cluster) -> None:
    leader, _ = cluster.wait_leader()
    guest = next(guest for guest in cluster.others(leader) if not guest.binds)
    rest = cluster.others(guest)
    guest.power_off()
    removed = control.play("remove_node.yml", p2pfl_node_gone=guest.name)
    version = cluster.version(leader)
    cluster.wait_version(version + 2, rest)
    say(f"remove_node.yml with {guest.name} switched off: {removed.seconds:.1f} s; the other four go on")
    gone = control.hosts.pop(guest.name)
    done = control.play("site.yml")
    assert guest.address not in leader.run(f"cat {CONFIGURATION}; firewall-cmd --list-rich-rules")
    say(f"site.yml without it: {done.seconds:.1f} s; four files changed, four restarts, one after another")
    guest.replace()
    guest.run(f"rpm -i --quiet {URL}/el8-provides-8.10-1.noarch.rpm 2>/dev/null")
    starts = [show(other, "MainPID") for other in rest]
    control.hosts[guest.name] = {**gone, "p2pfl_node_join": True}
    added = control.play("add_node.yml")
    assert [show(other, "MainPID") for other in rest] == starts, "the others go on as they are"
    cluster.wait_version(version + 4)
    models = cluster.check_lineages()
    say(f"add_node.yml with a new machine as {guest.name}: {added.seconds:.1f} s; it has all {models} models")
    assert control.play("add_node.yml").changed == 0


def test_a_backup_brings_the_cluster_back(control: Control, cluster: Cluster) -> None:
    done = control.play("backup.yml")
    backup = next((control.kept / "backups").iterdir())
    assert sorted(path.name for path in backup.iterdir()) == [
        "authority.tar.gz",
        *(f"{guest.name}.tar.gz" for guest in cluster.guests),
    ]
    assert {path.stat().st_mode & 0o77 for path in (backup, *backup.iterdir())} == {0}, "for nobody else to read"
    size = sum(path.stat().st_size for path in backup.iterdir())
    before = cluster.check_lineages()
    say(f"backup.yml: {done.seconds:.1f} s, {size:,} bytes")
    kept = cluster.lineage(cluster.guests[0])[: before - 1]
    cluster.wait_version(before + 3)
    for guest in cluster.guests:
        guest.run(f"systemctl stop p2pfl-node; rm -r {STATE}/* {PKI}/*")
    done = control.play("restore.yml", p2pfl_node_backup=str(backup))
    cluster.wait_leader()
    assert cluster.lineage(cluster.guests[0])[: len(kept)] == kept
    cluster.wait_version(len(kept) + 2)
    cluster.check_lineages()
    say(f"restore.yml after all state and keys were lost: {done.seconds:.1f} s; {len(kept)} models are back")


def test_a_rolling_upgrade(control: Control, cluster: Cluster) -> None:
    before = cluster.lineage(cluster.guests[0])
    for guest in cluster.guests:
        guest.run(f"echo '# mine' >>{CONFIGURATION}")
    done = control.play("rolling_upgrade.yml", p2pfl_node_version=VERSIONS[1])
    assert done.output.count(f"version {VERSIONS[1]} runs") == len(cluster.guests)
    for guest in cluster.guests:
        assert "# mine" in guest.run(f"cat {CONFIGURATION}")
    cluster.check_kept(before)
    say(f"rolling_upgrade.yml from {VERSIONS[0]} to {VERSIONS[1]}: {done.seconds:.1f} s, no model lost")


def test_a_downgrade_and_a_removal_keep_state_and_keys(cluster: Cluster) -> None:
    guest = cluster.guests[2]
    guest.run(f"dnf downgrade -y -q p2pfl-node-{VERSIONS[0]}")
    state = until(lambda: cluster.status(guest), "an answer", 60)
    assert state["version"] == VERSIONS[0]
    guest.run("dnf remove -y -q p2pfl-node")
    assert guest.run("systemctl is-active p2pfl-node || true").strip() == "inactive"
    kept = guest.run(f"ls {PKI} {STATE} /etc/p2pfl-node")
    assert {"node.key", "consensus", "models"} <= set(kept.split())
    say(f"removed: {' '.join(kept.split())} are kept")
    cluster.wait_leader(cluster.others(guest))
