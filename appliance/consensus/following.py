"""A follower's log (paper, 5.3)."""

from appliance.consensus.log import Log
from appliance.consensus.messages import AppendEntries, AppendEntriesReply
from appliance.words.errors import RemoteError
from appliance.words.ids import Term


def append(log: Log, message: AppendEntries, term: Term) -> AppendEntriesReply:
    """Take in entries of this term's leader, and return what to answer.

    Raises RemoteError if they differ from committed ones; nothing has changed then.
    """
    previous = message.previous_index
    # What is left out before the start is committed, so the leader's log has it too.
    if previous >= log.start and log.term_at(previous) != message.previous_term:
        hint = log.last_up_to(min(previous, log.last_index), message.previous_term)
        return AppendEntriesReply(term, False, previous, hint, log.term_at(hint) or 0, message.beat)
    agreed = log.merge(previous, message.entries)
    if agreed is None:
        raise RemoteError("entries that differ from the committed ones")
    log.advance(min(message.commit, agreed))
    return AppendEntriesReply(term, True, agreed, beat=message.beat)
