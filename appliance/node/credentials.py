"""What this node proves who it is with, and whom it trusts: both may change while it runs."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from appliance.node.errands import Errands
from appliance.pki.identity import NodeIdentity
from appliance.pki.revocations import NOTHING_REVOKED, RevocationList, parse_list
from appliance.storage.files import write_atomically
from appliance.storage.guarded import read_file
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Monotonic
from appliance.words.settings import Identity

LOOK_EVERY_S = 2.0
SAY_EVERY_S = 60.0
WARN_DAYS = 30.0
WARN_EVERY_S = 86_400.0

log = logging.getLogger(__name__)

_Seen = tuple[tuple[int, int, int], ...]


class Credentials:
    """The node's identity and the authority's newest revocation list, each replaced when a better one comes.

    The files of the identity are looked at every two seconds; a pair that is right takes the place of the former one
    for new connections, with nobody interrupted. Half of a pair, which is there while somebody copies, changes nothing.

    Args:
        identity: as it was loaded from the files at the start.
        store: where the newest revocation list is kept, and beside it what TLS reads: authority and list together.
        changed: called after each change.
    """

    def __init__(
        self,
        files: Identity,
        identity: NodeIdentity,
        store: Path,
        errands: Errands,
        *,
        changed: Callable[[], None],
    ) -> None:
        self.identity = identity
        self.revoked = NOTHING_REVOKED
        self._files = files
        self._store = store
        self._errands = errands
        self._changed = changed
        self._taken = self._fingerprint()
        self._refused: _Seen = ()
        self._before = self._taken
        self._next_look = self._next_say = self._next_warning = Monotonic(float("-inf"))
        self._load_list()

    def tick(self, now: Monotonic) -> bool:
        """Time has passed: look at the files, warn of an end that is near; return whether it is time to tell the peers
        of the revocation list again, for those that were down."""
        if now >= self._next_look:
            self._next_look = Monotonic(now + LOOK_EVERY_S)
            self._look()
        if now >= self._next_warning:
            self._next_warning = Monotonic(now + WARN_EVERY_S)
            self._warn()
        if now < self._next_say or not self.revoked.der:
            return False
        self._next_say = Monotonic(now + SAY_EVERY_S)
        return True

    def take_list(self, content: bytes) -> bool:
        """Take in a revocation list, of a peer or an operator; tell whether it is newer than what is known.

        Raises:
            RemoteError: it is none of this authority. StateError: it can't be kept.
        """
        found = parse_list(content, self.identity.ca)
        if found.number <= self.revoked.number:
            return False
        write_atomically(self._store, found.der, 0o644)
        log.warning("revocation list %d is in force: %d certificates don't count", found.number, len(found.serials))
        self._apply(found)
        self._changed()
        return True

    def _load_list(self) -> None:
        if not self._store.exists():
            return
        try:
            self._apply(parse_list(read_file(self._store), self.identity.ca))
        except RemoteError as error:
            raise OperatorError(f"{self._store}: {error.reason}; remove it, peers will send it again") from None

    def _apply(self, found: RevocationList) -> None:
        self.revoked = found
        self.identity.distrust(found, self._store.with_name("trust.pem"))
        if self.identity.serial in found.serials:
            self._errands.failed("certificate", OperatorError("is revoked: the others refuse this node; get a new one"))

    # --- files -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Take in other files once they have stood still between two looks."""
        seen = self._fingerprint()
        stands_still, self._before = seen == self._before, seen
        if not stands_still or seen in {self._taken, self._refused}:
            return
        try:
            identity = NodeIdentity.load(self._files, self.identity.node)
        except OperatorError as error:
            self._refused = seen
            self._errands.failed("certificate", error)
            return
        self._taken, self._refused = seen, ()
        self.identity = identity
        self._errands.mended("certificate")
        log.info("the certificate is renewed: valid until %s", f"{identity.expires_at:%Y-%m-%d}")
        if self.revoked.der:
            self._apply(self.revoked)
        self._warn()
        self._changed()

    def _fingerprint(self) -> _Seen:
        files = (self._files.ca, self._files.certificate, self._files.private_key)
        return tuple(_stat(path) for path in files)

    def _warn(self) -> None:
        for whose, path, days in self.identity.days_left():
            if days < WARN_DAYS:
                self._errands.failed(
                    f"{whose} certificate",
                    OperatorError(f"{path} expires in {days:.0f} days; see p2pfl-node pki renew --help"),
                )
            else:
                self._errands.mended(f"{whose} certificate")


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return found.st_ino, found.st_size, found.st_mtime_ns
