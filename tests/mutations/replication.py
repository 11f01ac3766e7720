"""The no-op, the commit rule, truncation, the back-off, requests, reads."""

from tests.mutations.elections import CORE, LEADERSHIP, LOG
from tests.mutations.mutation import Mutation

FOLLOWING = "appliance/consensus/following.py"
LEDGER = "appliance/consensus/ledger.py"
READS = "appliance/consensus/reads.py"

REPLICATION = (
    Mutation(
        "no no-op",
        CORE,
        '        self._leadership.append("no-op", self._node.encode())\n',
        "",
        "what former leaders left is never committed, and a new leader may not act (6.4)",
    ),
    Mutation(
        "commit an old entry by count",
        LEADERSHIP,
        "if reached > log.commit and log.term_at(reached) == self._term:",
        "if reached > log.commit:",
        "figure 8: it can be overwritten all the same",
    ),
    Mutation(
        "a refusal counts as a copy",
        LEADERSHIP,
        "        if reply.accepted:\n",
        "        if reply.accepted or reply.index:\n",
        "what does not fit is taken to be there",
    ),
    Mutation(
        "what was sent counts as a copy",
        LEADERSHIP,
        "            follower.match = max(follower.match, reply.index)\n",
        "            follower.match = max(follower.match, reply.index, follower.next - 1)\n",
        "entries that are on their way, or lost, count for a majority",
    ),
    Mutation(
        "lost entries are not sent again",
        LEADERSHIP,
        "            if behind and not follower.probing and follower.match == follower.match_at_heartbeat:\n",
        "            if behind and not follower.probing and follower.match < 0:\n",
        "the follower has to refuse something first: a round trip more for each loss",
    ),
    Mutation(
        "begin at entry 1",
        LEADERSHIP,
        "            if behind and not follower.probing and follower.match == follower.match_at_heartbeat:\n",
        "            if behind and follower.match == follower.match_at_heartbeat:\n",
        "a new leader sends every follower the whole log",
    ),
    Mutation(
        "a keep-alive takes a follower back",
        LEADERSHIP,
        "            if not follower.probing or reply.index >= follower.next - 1:\n",
        "            if follower.probing:\n                follower.next = follower.match + 1\n            if True:\n",
        "a slow disk at an election has the whole log sent again",
    ),
    Mutation(
        "no back-off",
        LEADERSHIP,
        "follower.next = max(follower.match, min(reply.index - 1, equal)) + 1",
        "follower.next = max(follower.match, reply.index) + 1",
        "a follower whose log differs is asked the same for ever (5.3)",
    ),
    Mutation(
        "back off by one entry",
        LEADERSHIP,
        "follower.next = max(follower.match, min(reply.index - 1, equal)) + 1",
        "follower.next = max(follower.match, reply.index - 1) + 1",
        "a message for each entry that differs, not for each term (end of 5.3)",
    ),
    Mutation(
        "back off too far",
        LOG,
        "return min(index, self.start + bisect_right(self._entries, term, key=lambda entry: entry.term))",
        "return min(index, self.start)",
        "entries that are there already are sent again",
    ),
    Mutation(
        "any entry before will do",
        FOLLOWING,
        "if previous >= log.start and log.term_at(previous) != message.previous_term:",
        "if previous >= log.start and log.term_at(previous) is None:",
        "logs with the same last entry differ before it (log matching)",
    ),
    Mutation(
        "the commit passes what agreed",
        FOLLOWING,
        "log.advance(min(message.commit, agreed))",
        "log.advance(min(message.commit, log.last_index))",
        "a follower applies a tail of its own that the leader does not have (figure 2)",
    ),
    Mutation(
        "a follower claims its whole log",
        FOLLOWING,
        "    return AppendEntriesReply(term, True, agreed, beat=message.beat)",
        "    return AppendEntriesReply(term, True, log.last_index, beat=message.beat)",
        "a tail that the leader does not have counts for a majority",
    ),
    Mutation(
        "a conflict is kept",
        LOG,
        """                self.truncate(entry.index)
                self.append(entries[position:])
""",
        """                if entry.index > self.last_index:
                    self.append(entries[position:])
""",
        "a follower acknowledges entries in whose place it has others",
    ),
    Mutation(
        "a late message truncates",
        LOG,
        "        return previous + len(entries)\n",
        """        self.truncate(max(self.commit, previous + len(entries)) + 1)
        return previous + len(entries)
""",
        "entries that were acknowledged are removed by a shorter message that comes late (figure 2, rule 3)",
    ),
    Mutation(
        "replace what is committed",
        LOG,
        "                if entry.index <= self.commit:\n                    return None\n",
        "                if entry.index <= self.commit:\n                    return previous + len(entries)\n",
        "a leader that contradicts what is committed is obeyed as far as possible, and not reported",
    ),
    Mutation(
        "a truncation is not saved",
        LOG,
        "            self._truncate_from = min(index, self._truncate_from or index)\n",
        "            self._truncate_from = None\n",
        "after a restart the old tail is back",
    ),
    Mutation(
        "replaced entries are not saved",
        LOG,
        "            self._drained = index - 1\n",
        "",
        "the new entries are acknowledged, and are in memory only",
    ),
    Mutation(
        "committed entries come in two orders",
        LOG,
        "        self._fresh += [entry for",
        "        self._fresh[:0] = [entry for",
        "what is committed in two steps is applied in the wrong order",
    ),
    Mutation(
        "a repetition is applied",
        LOG,
        "for entry in self.entries(self.commit + 1, commit) if self._ledger.count(entry)]",
        "for entry in self.entries(self.commit + 1, commit) if self._ledger.count(entry) or entry.data]",
        "a request that is asked twice is done twice (6.3)",
    ),
    Mutation(
        "an earlier request is done after a later one",
        LEDGER,
        "repeated = last is not None and number <= last[0]",
        "repeated = last is not None and number == last[0]",
        "a request that comes late is done, though its client has gone on (6.3)",
    ),
    Mutation(
        "a request in the log is appended again",
        LEADERSHIP,
        "place = None if request is None else self._log.find(request)",
        "place = None",
        "each repetition costs an entry, and answers another index",
    ),
    Mutation(
        "a request that waits is not found",
        LOG,
        "waiting = self.entries(self.commit + 1, self.last_index)",
        "waiting = self.entries(self.commit + 1, self.commit)",
        "a repetition of what is on its way is appended again",
    ),
    Mutation(
        "a client is never forgotten",
        LEDGER,
        "        if len(self.done) > CLIENTS:\n            del self.done[next(iter(self.done))]\n",
        "",
        "memory and snapshots grow without a bound",
    ),
    Mutation(
        "the most recent client is forgotten",
        LEDGER,
        "del self.done[next(iter(self.done))]",
        "del self.done[client]",
        "a request of the thousand-and-first client is done as often as it is asked",
    ),
    Mutation(
        "turns are not counted",
        LEDGER,
        "            self.turns[self.last_leader] = self.turns.get(self.last_leader, 0) + 1\n",
        "",
        "leadership goes back and forth between the same two",
    ),
    Mutation(
        "a read without confirmation",
        READS,
        """        done = [read for beat, read in self._sent if beat <= confirmed]
        self._sent = [(beat, read) for beat, read in self._sent if beat > confirmed]
""",
        """        done = [read for _beat, read in self._sent]
        self._sent = []
""",
        "a leader that was deposed, and does not know, answers (6.4)",
    ),
    Mutation(
        "an earlier heartbeat confirms a read",
        READS,
        "self._sent += [(self.beat, read) for read in self._asked]",
        "self._sent += [(self.beat - 1, read) for read in self._asked]",
        "an answer from before the question proves nothing of now (6.4)",
    ),
    Mutation(
        "one follower confirms a read",
        LEADERSHIP,
        "return self.reads.answered(self._reached(self.reads.beat, lambda follower: follower.beat))",
        "return self.reads.answered(max((f.beat for f in self._followers.values()), default=self.reads.beat))",
        "the others may follow another leader (6.4)",
    ),
    Mutation(
        "a read before the no-op",
        CORE,
        "if self._leadership is None or not self.settled or now >= self._leadership.quorum_lost_at:",
        "if self._leadership is None or now >= self._leadership.quorum_lost_at:",
        "a new leader does not know yet what is committed (6.4)",
    ),
    Mutation(
        "keep-alives confirm reads",
        LEADERSHIP,
        "return [(name, self._empty(follower, commit, 0)) for name, follower in self._followers.items()]",
        "return [(name, self._empty(follower, commit, self.reads.beat)) for name, follower in self._followers.items()]",
        "they are no part of a Ready, and so no proof of one",
    ),
    Mutation(
        "a lost read is not told",
        CORE,
        "        self._out.reads += self._leadership.reads.lost()\n",
        "",
        "who asked waits for ever",
    ),
)
