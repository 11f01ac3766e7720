"""Certificates and revocation lists that change while a node runs."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.node.credentials import LOOK_EVERY_S, SAY_EVERY_S, Credentials
from appliance.pki.authority import NODE_LIFETIME, Authority
from appliance.pki.identity import NodeIdentity
from appliance.pki.revocations import revoke
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Monotonic
from appliance.words.settings import Identity
from tests.unit.pki.identities import write_identity

AUTHORITY = Authority.create("c")


class Bench:
    """Credentials on a clock of their own, and what they told."""

    def __init__(self, folder: Path, *, now: datetime | None = None) -> None:
        self.folder = folder
        self.files = write_identity(folder, AUTHORITY, "node0", now=now)
        self.changes = 0
        self.faults: dict[str, str] = {}
        self.now = 100.0
        self.credentials = self.start()

    def start(self) -> Credentials:
        errands = SimpleNamespace(
            failed=lambda area, error: self.faults.__setitem__(area, str(error)),
            mended=lambda area: self.faults.pop(area, None),
        )
        identity = NodeIdentity.load(self.files, "node0")
        return Credentials(self.files, identity, self.folder / "revoked.der", cast(Any, errands), changed=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def look(self, times: int = 3) -> None:
        for _ in range(times):
            self.now += LOOK_EVERY_S
            self.credentials.tick(Monotonic(self.now))

    def renewed(self) -> Identity:
        (self.folder / "new").mkdir()
        return write_identity(self.folder / "new", AUTHORITY, "node0")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_renewed_pair_is_taken_up(bench: Bench) -> None:
    bench.look()
    before, fresh = bench.credentials.identity.serial, bench.renewed()
    shutil.copy(fresh.private_key, bench.files.private_key)
    shutil.copy(fresh.certificate, bench.files.certificate)
    bench.look()
    assert bench.credentials.identity.serial != before
    assert (bench.changes, bench.faults) == (1, {})
    bench.look()
    assert bench.changes == 1


def test_half_of_a_pair_changes_nothing_and_is_said(bench: Bench) -> None:
    before, fresh = bench.credentials.identity.serial, bench.renewed()
    shutil.copy(fresh.certificate, bench.files.certificate)
    bench.look()
    assert bench.credentials.identity.serial == before
    assert "does not belong to the certificate" in bench.faults["certificate"]
    shutil.copy(fresh.private_key, bench.files.private_key)
    bench.look()
    assert bench.credentials.identity.serial != before
    assert (bench.changes, bench.faults) == (1, {})


def test_a_file_that_is_gone_for_a_moment_changes_nothing(bench: Bench) -> None:
    content = bench.files.certificate.read_bytes()
    bench.files.certificate.unlink()
    bench.look(1)
    bench.files.certificate.write_bytes(content)
    bench.look()
    assert not bench.faults


def test_a_list_is_kept_and_an_older_one_changes_nothing(bench: Bench) -> None:
    first = revoke(AUTHORITY, [5])
    second = revoke(AUTHORITY, [6], first)
    assert bench.credentials.take_list(second.pem)
    assert not bench.credentials.take_list(first.der)
    assert not bench.credentials.take_list(second.der)
    assert bench.changes == 1
    again = bench.start()
    assert again.revoked == second
    assert bench.credentials.identity.serial not in again.revoked.serials


def test_another_authoritys_list_is_refused(bench: Bench) -> None:
    with pytest.raises(RemoteError, match="not signed"):
        bench.credentials.take_list(revoke(Authority.create("c"), [5]).der)
    assert bench.changes == 0


def test_a_damaged_list_on_disk_is_named(bench: Bench) -> None:
    (bench.folder / "revoked.der").write_bytes(b"rubbish")
    with pytest.raises(OperatorError, match=r"revoked\.der: revocation list: is none"):
        bench.start()


def test_a_node_whose_own_certificate_is_revoked_says_so_until_it_has_another(bench: Bench) -> None:
    bench.credentials.take_list(revoke(AUTHORITY, [bench.credentials.identity.serial]).der)
    assert "is revoked" in bench.faults["certificate"]
    fresh = bench.renewed()
    shutil.copy(fresh.private_key, bench.files.private_key)
    shutil.copy(fresh.certificate, bench.files.certificate)
    bench.look()
    assert not bench.faults


def test_the_list_is_said_again_each_minute(bench: Bench) -> None:
    assert not bench.credentials.tick(Monotonic(bench.now))
    bench.credentials.take_list(revoke(AUTHORITY, [5]).der)
    assert bench.credentials.tick(Monotonic(bench.now + 1.0))
    assert not bench.credentials.tick(Monotonic(bench.now + 2.0))
    assert bench.credentials.tick(Monotonic(bench.now + 1.0 + SAY_EVERY_S))


@pytest.mark.parametrize(("days", "warns"), [(29, True), (31, False)])
def test_an_end_that_is_near_is_warned_of(tmp_path: Path, days: int, warns: bool) -> None:
    bench = Bench(tmp_path, now=datetime.now(UTC) - NODE_LIFETIME + timedelta(days=days))
    bench.look(1)
    assert bool(bench.faults) == warns
    if warns:
        assert "expires in" in bench.faults["this node's certificate"]
