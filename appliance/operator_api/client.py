"""Talks to a node's operator API on this machine."""

import http.client
import urllib.parse
from dataclasses import dataclass

import msgspec

from appliance.operator_api.views import ListedModel, MembersView, NewMember, ReloadedView, Rollback, Status
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName, Version
from appliance.words.settings import Operator

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class NodeApi:
    """The operator API of one node. Every call raises OperatorError if the node does not answer."""

    settings: Operator

    def status(self) -> Status:
        """Return ``/v1/status``, typed."""
        content = self.get("/v1/status")
        try:
            return msgspec.json.decode(content, type=Status)
        except msgspec.MsgspecError:
            raise OperatorError(
                f"what answers at {self.settings.host}:{self.settings.port} is no node of this version; "
                "is operator.port the node's own?"
            ) from None

    def get(self, path: str) -> bytes:
        """Return the body of a GET."""
        code, body = self._request("GET", path)
        if code != http.client.OK:
            raise OperatorError(_refusal(code, body))
        return body

    def resign(self) -> None:
        """Ask the leader to hand over."""
        self._ask("POST", "/v1/resign")

    def reload(self) -> ReloadedView:
        """Have the node read its configuration file again. Raises OperatorError if the file can't be used."""
        code, body = self._request("POST", "/v1/reload")
        if code != http.client.OK:
            raise OperatorError(_refusal(code, body))
        return msgspec.json.decode(body, type=ReloadedView)

    def members(self) -> MembersView:
        """Return ``/v1/members``, typed."""
        return msgspec.json.decode(self.get("/v1/members"), type=MembersView)

    def models(self) -> list[ListedModel]:
        """Return ``/v1/models``, typed."""
        return msgspec.json.decode(self.get("/v1/models"), type=list[ListedModel])

    def model(self, version: Version) -> bytes:
        """Return the safetensors bytes of a committed model."""
        return self.get(f"/v1/models/{version}")

    def roll_back(self, version: Version) -> None:
        """Ask this node, which must lead, to make an earlier model the head again."""
        self._ask("POST", "/v1/rollback", msgspec.json.encode(Rollback(version)))

    def add_member(self, new: NewMember) -> None:
        """Ask this node, which must lead, to let a node join."""
        self._ask("POST", "/v1/members", msgspec.json.encode(new))

    def remove_member(self, node: NodeName) -> None:
        """Ask this node, which must lead, to let a node leave."""
        self._ask("DELETE", f"/v1/members/{urllib.parse.quote(node, safe='')}")

    def revoke(self, content: bytes) -> None:
        """Give the node a revocation list."""
        self._ask("POST", "/v1/revocations", content)

    def _ask(self, method: str, path: str, content: bytes | None = None) -> None:
        code, body = self._request(method, path, content)
        if code != http.client.ACCEPTED:
            raise OperatorError(_refusal(code, body))

    def _request(self, method: str, path: str, content: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.settings.host, self.settings.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, content)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if isinstance(error, http.client.HTTPException):
                reason = "what is there does not speak HTTP"  # the library would quote whatever it said
            raise OperatorError(
                f"no answer from the node's operator API at {self.settings.host}:{self.settings.port} ({reason}); "
                "is the node running, and is this its configuration?"
            ) from None
        finally:
            connection.close()


def _refusal(code: int, body: bytes) -> str:
    return body.decode(errors="replace").strip() or f"the node answered with status {code}"
