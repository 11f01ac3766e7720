"""A receipt's reason is written by another node, and goes to this node's log and terminals."""

from appliance.rounds.actions import Note
from appliance.rounds.participant import FinishedUpdate, Participant
from appliance.words.ids import Monotonic, digest_of


def test_a_reason_can_not_steer_a_terminal_nor_begin_a_line() -> None:
    now = Monotonic(1.0)
    participant = Participant(FinishedUpdate(bytes(16), 5, digest_of(b"m4")), frozenset(), now, window_s=0.0)
    [note] = participant.received(bytes(16), bytes(32), now, accepted=False, reason="bad\x1b[2J\nnode1 leads\u202e, é")
    assert isinstance(note, Note)
    assert note.text.endswith(": bad?[2J?node1 leads?, é")
