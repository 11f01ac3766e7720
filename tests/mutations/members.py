"""Membership and snapshots."""

from tests.mutations.elections import CORE, LEADERSHIP, LOG
from tests.mutations.mutation import Mutation

MEMBERSHIP = "appliance/consensus/membership.py"
SNAPSHOT = "appliance/consensus/snapshot.py"

MEMBERS = (
    Mutation(
        "two changes at a time",
        LEADERSHIP,
        """        if self._log.membership_index > self._log.commit:
            raise OperatorError("another change of the members is under way; ask again when it is done")
""",
        "",
        "majorities of the first and the last membership share no node (4.1)",
    ),
    Mutation(
        "a change before the no-op",
        CORE,
        "        if self._leadership is None or not self.settled:\n            raise OperatorError",
        "        if self._leadership is None:\n            raise OperatorError",
        "two changes of different leaders are under way (raft-dev, 10 July 2015)",
    ),
    Mutation(
        "a membership counts when it is committed",
        LOG,
        "        return self._memberships[-1][1]\n",
        "        return self.settled_membership\n",
        "nodes decide by different memberships at different times (4.1)",
    ),
    Mutation(
        "a membership outlives its entry",
        LOG,
        """        while self._memberships[-1][0] >= index:
            self._memberships.pop()
""",
        "",
        "a node counts by a membership that never was (4.1)",
    ),
    Mutation(
        "a learner counts",
        LEADERSHIP,
        """        voters = self._log.membership.voters
        return reached_by_majority""",
        """        voters = self._log.membership.names
        return reached_by_majority""",
        "copies on nodes without a vote make a majority (4.2.1)",
    ),
    Mutation(
        "a removed leader counts itself",
        LEADERSHIP,
        "for name in voters])",
        "for name in {*voters, self._node}])",
        "an entry is committed without a majority of those who remain (4.2.2)",
    ),
    Mutation(
        "a removed leader leads on",
        CORE,
        """        self._leadership.advance(now)
        if not self._may_stand:
            self._step_down(now)
""",
        "        self._leadership.advance(now)\n",
        "a cluster is led by a node that is none of it (4.2.2)",
    ),
    Mutation(
        "who is being removed does not stand",
        CORE,
        "return self._node in self._log.membership.voters or self._node in self._log.settled_membership.voters",
        "return self._node in self._log.membership.voters",
        "if only it has the entry, nobody can ever lead (4.2.2)",
    ),
    Mutation(
        "who was removed stands",
        CORE,
        "return self._node in self._log.membership.voters or self._node in self._log.settled_membership.voters",
        "return True",
        "removed nodes and learners stand for election for ever",
    ),
    Mutation(
        "promotion before it has caught up",
        LEADERSHIP,
        "fit = (name for name in self._log.membership.learners if self._followers[name].match >= self._log.commit)",
        "fit = (name for name in self._log.membership.learners)",
        "a voter with an empty log holds the cluster up (4.2.1)",
    ),
    Mutation(
        "promotion of the dead",
        LEADERSHIP,
        "return next((name for name in fit if name in live), None)",
        "return next(fit, None)",
        "a voter that is down for long costs a majority",
    ),
    Mutation(
        "promotion beside another change",
        LEADERSHIP,
        "and log.term_at(log.commit) == self._term and log.membership_index <= log.commit:",
        "and log.term_at(log.commit) == self._term:",
        "two changes are under way at a time (4.1)",
    ),
    Mutation(
        "promotion before the no-op",
        LEADERSHIP,
        "if learner is not None and log.term_at(log.commit) == self._term and log.membership_index",
        "if learner is not None and log.membership_index",
        "two changes of different leaders are under way (raft-dev, 10 July 2015)",
    ),
    Mutation(
        "a removed node is not told",
        LEADERSHIP,
        "wanted = (self._log.membership.names | self._log.settled_membership.names) - {self._node}",
        "wanted = self._log.membership.names - {self._node}",
        "it stands for election, for it does not know",
    ),
    Mutation(
        "the last voter may leave",
        MEMBERSHIP,
        "        if set(self.voters) == {node}:\n",
        "        if not self.voters:\n",
        "a cluster that nobody can lead any more",
    ),
    Mutation(
        "a snapshot of what is not committed",
        LOG,
        "membership=self.settled_membership,",
        "membership=self.membership,",
        "a membership that is overwritten later lives on in a snapshot",
    ),
    Mutation(
        "requests are not in the snapshot",
        LOG,
        "done=dict(ledger.done),",
        "done={},",
        "whoever gets the snapshot does a request again (6.3)",
    ),
    Mutation(
        "turns are not in the snapshot",
        LOG,
        "turns=dict(ledger.turns),",
        "turns={},",
        "nodes disagree whose turn it is",
    ),
    Mutation(
        "a snapshot shares its ledger",
        SNAPSHOT,
        "return Ledger(self.turns, self.last_leader, self.done)",
        "ledger = Ledger(last_leader=self.last_leader)\n        ledger.turns, ledger.done = self.turns, self.done\n"
        "        return ledger",
        "the snapshot changes with what is committed after it",
    ),
    Mutation(
        "an older snapshot replaces the state",
        LOG,
        "        if snapshot.index <= self.commit:\n            return\n",
        "",
        "what was committed is taken back",
    ),
    Mutation(
        "a snapshot drops what follows it",
        LOG,
        "later = list(self.entries(snapshot.index + 1, self.last_index)) if follows else []",
        "later = list[Entry]()",
        "entries that were acknowledged are lost (figure 13, rule 6)",
    ),
    Mutation(
        "a snapshot keeps what contradicts it",
        LOG,
        "follows = self.term_at(snapshot.index) == snapshot.term",
        "follows = True",
        "a tail of another history behind a snapshot (figure 13, rule 7)",
    ),
    Mutation(
        "a snapshot from anybody",
        CORE,
        "if sender != self._leader or self._leadership is not None or snapshot.term > self._term:",
        "if self._leadership is not None or snapshot.term > self._term:",
        "a member that does not lead replaces the state at will",
    ),
    Mutation(
        "a snapshot is not applied",
        LOG,
        "        self._restored = snapshot\n        self._fresh = []\n",
        "        self._restored = None\n        self._fresh = []\n",
        "the application misses all that the snapshot stands for",
    ),
    Mutation(
        "a snapshot that was not waited for",
        LOG,
        "if self._fresh or self._restored is not None or not term:",
        "if not term:",
        "the state of what is applied is taken for that of all that is committed",
    ),
    Mutation(
        "after a crash the log replaces the snapshot",
        SNAPSHOT,
        "        return Kept((), snapshot.index, snapshot.term, snapshot)\n",
        "        return self\n",
        "a log that a snapshot was about to replace goes on beside it (figure 13)",
    ),
    Mutation(
        "after a crash a log of another history stays",
        SNAPSHOT,
        "if 0 <= place < len(self.entries) and self.entries[place].term == snapshot.term:",
        "if 0 <= place < len(self.entries):",
        "entries that contradict the snapshot are behind it (figure 13, rule 7)",
    ),
    Mutation(
        "after a crash the log is dropped",
        SNAPSHOT,
        "if 0 <= place < len(self.entries) and self.entries[place].term == snapshot.term:",
        "if place < 0:",
        "entries that were acknowledged, behind the snapshot, are lost",
    ),
    Mutation(
        "an offer is answered with the whole log",
        CORE,
        "self._send(sender, AppendEntriesReply(self._term, True, self._log.commit, beat=message.beat))",
        "self._send(sender, AppendEntriesReply(self._term, True, self._log.last_index, beat=message.beat))",
        "a tail that the leader does not have counts for a majority",
    ),
    Mutation(
        "an installation is answered with the whole log",
        CORE,
        "self._send(sender, AppendEntriesReply(self._term, True, self._log.commit))",
        "self._send(sender, AppendEntriesReply(self._term, True, self._log.last_index))",
        "a tail behind the snapshot that the leader does not have counts for a majority",
    ),
    Mutation(
        "a log that begins anew is not saved as one",
        LOG,
        "        self._compacted = True\n",
        "        self._compacted = self._compacted or not self._entries\n",
        "the disk keeps entries that the log no longer begins with",
    ),
)
