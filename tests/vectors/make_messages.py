"""Make messages.json anew, after a change of the protocol that is meant (python -m tests.vectors.make_messages)."""

import json
from pathlib import Path

from appliance.words.messages import (
    Announcement,
    Candidate,
    DatagramKeyAnswer,
    DatagramKeyOffer,
    DatagramKeyWanted,
    Finished,
    HandedOn,
    LeaderStatement,
    MeshMessage,
    ModelReply,
    ModelRequest,
    ModelWanted,
    Opening,
    Participation,
    Receipt,
    ResignWanted,
    Revocations,
    Sealed,
    Signed,
    SnapshotReply,
    SnapshotWanted,
    Stored,
    TokenSigned,
    TokenWanted,
    ToLeader,
    ToParticipant,
    Update,
    encode,
)
from appliance.words.models import Metrics

FILE = Path(__file__).parent / "messages.json"
DIGEST = "sha256:" + "ab" * 32
KEY = bytes(256)
ID = bytes(range(16))
SECRET = bytes(range(32))

MESSAGES: dict[str, list[MeshMessage | LeaderStatement | ToLeader | ToParticipant]] = {
    "mesh": [
        Signed(payload=b"payload", certificate=b"certificate", signature=b"signature", body=memoryview(b"body")),
        Sealed(memoryview(b"envelope")),
        Stored(term=3, round=7, digest=DIGEST),
        Participation(term=3, round=7, able=False),
        Finished(term=3, round=7),
        ModelWanted(digest=DIGEST, public_key=KEY),
        ResignWanted(term=3),
        SnapshotWanted(term=3),
        SnapshotReply(term=3, snapshot=b"snapshot"),
        HandedOn(memoryview(b"envelope")),
        TokenWanted(term=3, round=7, blinded=KEY),
        TokenSigned(term=3, round=7, signature=KEY),
        Revocations(b"list"),
        DatagramKeyWanted(),
        DatagramKeyOffer(public_key=bytes(32)),
        DatagramKeyAnswer(offered=bytes(32), public_key=bytes(32)),
    ],
    "statement": [
        Announcement(cluster="c", leader="node0", term=3, key_id=bytes(32), public_key=KEY),
        Opening(
            cluster="c",
            leader="node0",
            term=3,
            round=7,
            base_version=6,
            base=DIGEST,
            key_id=bytes(32),
            accepted=2,
            expected=5,
            quorum=3,
            deadline_s=1.5,
            token_key=KEY,
            deliver=True,
            encoding="int8",
        ),
        Candidate(cluster="c", leader="node0", term=3, round=7, version=7, digest=DIGEST),
    ],
    "to leader": [
        Update(
            update_id=ID,
            nonce=bytes(32),
            token=KEY,
            round=7,
            base=DIGEST,
            samples=100,
            metrics=Metrics(accuracy=0.5, loss=0.25, samples=10),
            reply_key=KEY,
            reply_secret=SECRET,
            encoding="int8",
            weights=memoryview(b"weights"),
        ),
        ModelRequest(digest=DIGEST, reply_key=KEY, reply_secret=SECRET),
    ],
    "to participant": [
        Receipt(update_id=ID, accepted=True, reason="", round_key=bytes(32)),
        ModelReply(digest=DIGEST, weights=memoryview(b"weights")),
    ],
}


def main() -> None:
    """Write the file."""
    content = {
        family: {type(message).__name__: encode(message).hex() for message in messages}
        for family, messages in MESSAGES.items()
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
