"""Votes, terms, PreVote, the lease, CheckQuorum, handing over."""

from tests.mutations.mutation import Mutation

CORE = "appliance/consensus/core.py"
CANDIDACY = "appliance/consensus/candidacy.py"
QUORUM = "appliance/consensus/quorum.py"
LOG = "appliance/consensus/log.py"
READY = "appliance/consensus/ready.py"
LEADERSHIP = "appliance/consensus/leadership.py"

ELECTIONS = (
    Mutation(
        "forget the vote on restart",
        CORE,
        "self._term, self._voted_for = hard_state.term, hard_state.voted_for",
        "self._term, self._voted_for = hard_state.term, None",
        "a node votes twice in a term, once before and once after a restart",
    ),
    Mutation(
        "forget the term on restart",
        CORE,
        "self._term, self._voted_for = hard_state.term, hard_state.voted_for",
        "self._term, self._voted_for = self._log.last_term, None",
        "a node goes back to a term in which it has spoken already",
    ),
    Mutation(
        "a vote is not saved",
        READY,
        "must_write = promised or (written and state != self._saved)",
        "must_write = written and state != self._saved",
        "a vote is sent that only memory remembers",
    ),
    Mutation(
        "a vote is saved only with a new term",
        READY,
        "promised = (state.term, state.voted_for) != (self._saved.term, self._saved.voted_for)",
        "promised = state.term != self._saved.term",
        "a vote given later in a term is sent, and not made durable",
    ),
    Mutation(
        "two votes in a term",
        CORE,
        "granted = message.term == self._term and up_to_date and self._voted_for in {None, sender}",
        "granted = message.term == self._term and up_to_date",
        "two candidates can win the same term",
    ),
    Mutation(
        "the vote stays for the next term",
        CORE,
        "            self._term, self._voted_for = term, None\n",
        "            self._term = term\n",
        "whoever has voted once refuses all others for ever",
    ),
    Mutation(
        "count a duplicated vote",
        QUORUM,
        """        if voter in self._voters and voter not in self._granted:
            (self._granted if granted else self._refused).add(voter)""",
        """        if voter in self._voters:
            (self._granted if granted else self._refused).add(voter + "'" * len(self._granted))""",
        "one voter whose datagram comes twice makes a majority",
    ),
    Mutation(
        "half is a majority",
        QUORUM,
        "return members // 2 + 1",
        "return (members + 1) // 2",
        "of an even number of voters two halves decide apart from each other",
    ),
    Mutation(
        "the slowest of the fastest half",
        QUORUM,
        "return sorted(values, reverse=True)[majority(len(values)) - 1]",
        "return sorted(values, reverse=True)[max(0, majority(len(values)) - 2)]",
        "a minority commits",
    ),
    Mutation(
        "vote for any log",
        CORE,
        "        up_to_date = self._log.is_up_to_date(message.last_index, message.last_term)\n",
        "        up_to_date = True\n",
        "a leader may lack what is committed (5.4.1)",
    ),
    Mutation(
        "only the length of a log counts",
        LOG,
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return last_index >= self.last_index",
        "a long tail that nobody committed beats a later term (5.4.1)",
    ),
    Mutation(
        "only the last term of a log counts",
        LOG,
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return last_term >= self.last_term",
        "of two logs of one term the shorter one wins as well (5.4.1)",
    ),
    Mutation(
        "skip PreVote",
        CORE,
        """            if now >= self._election_due and self._may_stand:
                self._stand(now, trial=True)""",
        """            if now >= self._election_due and self._may_stand:
                self._stand(now, trial=False)""",
        "a node that was cut off raises its term without end, and deposes the leader when it comes back",
    ),
    Mutation(
        "a pre-vote raises the term",
        CORE,
        "return not message.pre_vote and (message.transfer or not self._hears_leader(now))",
        "return message.transfer or not self._hears_leader(now)",
        "a trial costs a term, and a vote that was given in it (9.6)",
    ),
    Mutation(
        "a granted pre-vote raises the term",
        CORE,
        "return not (message.pre_vote and message.granted)",
        "return True",
        "who wins its trial takes the answer for a later term, and never stands",
    ),
    Mutation(
        "a pre-vote counts as a vote",
        CANDIDACY,
        "        if reply.pre_vote == self.trial and reply.term == expected:\n",
        "        if reply.term == expected:\n",
        "what binds nobody elects: two leaders in a term",
    ),
    Mutation(
        "votes of any term count",
        CANDIDACY,
        "        if reply.pre_vote == self.trial and reply.term == expected:\n",
        "        if reply.pre_vote == self.trial:\n",
        "votes for an earlier term elect in a later one",
    ),
    Mutation(
        "pre-votes for any log",
        CORE,
        "granted = message.term > self._term and up_to_date and not self._hears_leader(now)",
        "granted = message.term > self._term and not self._hears_leader(now)",
        "a candidate that can't win is let into a new term again and again",
    ),
    Mutation(
        "pre-votes beside a leader",
        CORE,
        "granted = message.term > self._term and up_to_date and not self._hears_leader(now)",
        "granted = message.term > self._term and up_to_date",
        "followers that hear the leader help a node that does not to depose it",
    ),
    Mutation(
        "no lease",
        CORE,
        "return not message.pre_vote and (message.transfer or not self._hears_leader(now))",
        "return not message.pre_vote",
        "a removed node, or one that was cut off, deposes a leader whom the others hear (4.2.3)",
    ),
    Mutation(
        "a transfer is held up by the lease",
        CORE,
        "return not message.pre_vote and (message.transfer or not self._hears_leader(now))",
        "return not message.pre_vote and not self._hears_leader(now)",
        "a leader can't hand over, for all hear it (3.10)",
    ),
    Mutation(
        "trials for all at once",
        CORE,
        "granted = granted and self._favourite.allows(sender, now)",
        "granted = bool(granted)",
        "two win their trials at once, and split the votes",
    ),
    Mutation(
        "a favourite of others gives way to nobody",
        CANDIDACY,
        "self._name == self._node or now >= self._since + UNDISTURBED * self._timeout_s",
        "self._name == self._node",
        "of many who try at once each is favoured by a few, and for ever none is elected",
    ),
    Mutation(
        "a lost trial stands in the way",
        CORE,
        "            self._favourite.give_up()\n",
        "",
        "a node that can't win refuses the only one that can, time and again",
    ),
    Mutation(
        "ask for a vote only once",
        CORE,
        "                self._ask_for_votes(self._candidacy, now)\n",
        "                self._candidacy.ask(now)\n",
        "one lost datagram costs an election",
    ),
    Mutation(
        "no CheckQuorum",
        CORE,
        "if now >= self._leadership.quorum_lost_at or (over and self._leadership.resigning):",
        "if over and self._leadership.resigning:",
        "a leader that reaches nobody goes on for ever (6.2)",
    ),
    Mutation(
        "a quorum of anybody",
        LEADERSHIP,
        "lambda follower: self.since if follower.heard is None else follower.heard",
        "lambda follower: max(f.heard or self.since for f in self._followers.values())",
        "one follower that answers is taken for a majority (6.2)",
    ),
    Mutation(
        "obey an earlier term",
        CORE,
        "        if message.term < self._term:\n            self._send(sender, AppendEntriesReply",
        "        if message.term < 0:\n            self._send(sender, AppendEntriesReply",
        "a leader that was deposed goes on writing (5.1)",
    ),
    Mutation(
        "an answer of a later term is not heeded",
        CORE,
        "            case _:\n                return True\n",
        "            case _:\n                return not isinstance(message, AppendEntriesReply)\n",
        "a leader never learns that it was deposed, nor is a stuck candidate freed",
    ),
    Mutation(
        "answers of any term count",
        CORE,
        "if self._leadership is not None and message.term == self._term:",
        "if self._leadership is not None:",
        "what a follower held in an earlier term, and lost since, counts for a majority",
    ),
    Mutation(
        "no random timeout",
        CORE,
        "spread = 1 + self._random.random()",
        "spread = 1.5",
        "all stand at once, and split the votes for ever (5.2)",
    ),
    Mutation(
        "anybody may demand an election",
        CORE,
        "asked = (message.term, sender) == (self._term, self._leader)",
        "asked = message.term == self._term",
        "a member that does not lead deposes the leader at will",
    ),
    Mutation(
        "who resigned stands again at once",
        CORE,
        "            self._abstain_until = Monotonic(now + ABSTENTION * self._settings.election_timeout_s)\n",
        "            self._abstain_until = now\n",
        "a resignation that nobody takes up is none",
    ),
    Mutation(
        "hand over to whoever lags",
        LEADERSHIP,
        "if handover.target is not None and self._followers[handover.target].match == self._log.last_index:",
        "if handover.target is not None:",
        "the target is asked to stand when it can't win (3.10)",
    ),
    Mutation(
        "take proposals while handing over",
        LEADERSHIP,
        "return self.handover is None and now < self.quorum_lost_at",
        "return now < self.quorum_lost_at",
        "the target never has the whole log (3.10)",
    ),
    Mutation(
        "a transfer never ends",
        CORE,
        "        elif over:\n            self._leadership.handover = None\n",
        "        elif over:\n            self._leadership.heartbeat(now)\n",
        "a dead target keeps the leader from taking proposals for ever",
    ),
)
