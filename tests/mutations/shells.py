"""The disk, the updates that wait there, the order of a Ready, and datagrams."""

from tests.mutations.mutation import Mutation

DISK_LOG = "appliance/storage/log.py"
FILES = "appliance/storage/files.py"
FRAMES = "appliance/storage/frames.py"
DRIVER = "appliance/datagrams/driver.py"
SEALING = "appliance/datagrams/sealing.py"
ASSOCIATION = "appliance/datagrams/association.py"
AGGREGATOR_WORK = "appliance/node/aggregator_work.py"
READING = "appliance/envelopes/reading.py"
SPOOL = "appliance/storage/spool.py"
LINK = "appliance/mesh/link.py"
BODY = "appliance/mesh/body.py"
PARTS = "appliance/words/parts.py"
LIVENESS = "appliance/datagrams/liveness.py"
OUTBOUND = "appliance/node/outbound.py"

SHELLS = (
    Mutation(
        "no fsync of the log",
        DISK_LOG,
        "            os.fdatasync(self._handle)\n",
        "",
        "what was acknowledged is lost with the power",
    ),
    Mutation(
        "no fsync of a replaced file",
        FILES,
        "                write_fully(handle, part)\n            os.fsync(handle)\n",
        "                write_fully(handle, part)\n",
        "the new name can come back with an empty file",
    ),
    Mutation(
        "no fsync of the folder after a replace",
        FILES,
        '        raise state_error("write", path, error) from error\n    fsync_folder(path.parent)\n',
        '        raise state_error("write", path, error) from error\n',
        "the old file can come back: a vote is forgotten",
    ),
    Mutation(
        "no fsync of the folder after a removal",
        FILES,
        '        raise state_error("remove", path, error) from error\n    fsync_folder(path.parent)\n',
        '        raise state_error("remove", path, error) from error\n',
        "what was removed can come back",
    ),
    Mutation(
        "no fsync of the folder of a new log",
        DISK_LOG,
        "                fsync_folder(self._folder)\n",
        "",
        "a new log, with all that was written to it, can be missing after power loss",
    ),
    Mutation(
        "no atomic replace",
        FILES,
        "            os.replace(temporary, path)\n",
        "            path.write_bytes(content)\n            os.unlink(temporary)\n",
        "a crash in mid-write leaves half a vote",
    ),
    Mutation(
        "a short write is taken for a whole one",
        FILES,
        "    view = memoryview(content)\n    while view:\n        view = view[os.write(handle, view) :]\n",
        "    os.write(handle, content)\n",
        "the rest of a record is never written",
    ),
    Mutation(
        "the vote after the entries",
        DISK_LOG,
        """            if hard_state is not None:
                self._save_vote(_Vote(hard_state.term, hard_state.voted_for))
            if compaction""",
        """            if hard_state is not None and not entries:
                self._save_vote(_Vote(hard_state.term, hard_state.voted_for))
            if compaction""",
        "entries of a term are durable, and the term is not",
    ),
    Mutation(
        "the vote only with its term",
        DISK_LOG,
        "        if vote != self._vote:\n",
        "        if vote.term != self._vote.term:\n",
        "a vote given later in a term is forgotten",
    ),
    Mutation(
        "the log before the snapshot",
        DISK_LOG,
        """                write_atomically(self._folder / "snapshot", frames.frame(""",
        """                self._rewrite(compaction, hard_state)
                write_atomically(self._folder / "snapshot", frames.frame(""",
        "a crash in between leaves a log without its beginning",
    ),
    Mutation(
        "a truncation is not written",
        DISK_LOG,
        "records: list[_Record] = [] if truncate_from is None else [_Truncated(truncate_from)]",
        "records: list[_Record] = []",
        "the log can't be read again",
    ),
    Mutation(
        "the commit is not written",
        DISK_LOG,
        "                records += _commit(hard_state)\n",
        "",
        "what was committed can't be told from what was not, after a restart",
    ),
    Mutation(
        "a torn end stays",
        DISK_LOG,
        "                os.ftruncate(handle, length)\n",
        "",
        "what is appended after it can't be read: promised entries are lost",
    ),
    Mutation(
        "damage is taken for a torn end",
        DISK_LOG,
        "if records is None and may_be_torn and frames.is_torn(content, self.length):",
        "if records is None and may_be_torn:",
        "promised entries behind it are removed",
    ),
    Mutation(
        "a damaged first frame of a compacted log is taken for a torn end",
        DISK_LOG,
        "may_be_torn = self.length > 0 or not replaced",
        "may_be_torn = True",
        "a log that was put there as a whole is emptied",
    ),
    Mutation(
        "no checksum",
        FRAMES,
        "if magic != _MAGIC or len(payload) < length or _checksum(payload) != checksum:",
        "if magic != _MAGIC or len(payload) < length:",
        "damage is taken for content",
    ),
    Mutation(
        "a checksum without the length",
        FRAMES,
        'return zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))',
        "return zlib.crc32(payload)",
        "a header whose rest has not arrived, so is zeros, is a whole, empty frame",
    ),
    Mutation(
        "write on after a failure",
        DISK_LOG,
        "            self._failed = error\n            raise\n",
        "            raise\n",
        "what follows half a record can't be read again",
    ),
    Mutation(
        "a missing vote is no vote",
        DISK_LOG,
        '            if _read(self._folder / "log"):\n',
        "            if not self._folder.exists():\n",
        "a lost file lets a node vote twice",
    ),
    Mutation(
        "a vote older than the log is used",
        DISK_LOG,
        "            if last_term > self._vote.term:\n",
        "            if last_term < 0:\n",
        "a vote from a copy lets a node vote twice",
    ),
    Mutation(
        "the lock is not held",
        DISK_LOG,
        "        self._lock = lock_folder(folder)\n",
        "        folder.mkdir(mode=0o700, parents=True, exist_ok=True)\n"
        "        self._lock = os.open(folder, os.O_RDONLY)\n",
        "two processes write one log",
    ),
    Mutation(
        "send before save",
        DRIVER,
        """        if ready.must_save:
            await self._save(ready)
        self._send(ready.messages)
""",
        """        self._send(ready.messages)
        if ready.must_save:
            await self._save(ready)
""",
        "a vote or an acknowledgement is told that a crash takes back",
    ),
    Mutation(
        "apply before save",
        DRIVER,
        """        if ready.must_save:
            await self._save(ready)
        self._send(ready.messages)
""",
        """        if ready.committed:
            self._application.on_committed(ready.committed)
            ready = __import__("dataclasses").replace(ready, committed=())
        if ready.must_save:
            await self._save(ready)
        self._send(ready.messages)
""",
        "what a leader applies is not durable on itself",
    ),
    Mutation(
        "answer a proposal before saving",
        DRIVER,
        """        answers, self._answers = self._answers, []
        if ready.must_save:
""",
        """        answers, self._answers = self._answers, []
        for answer in answers:
            answer.set_result(None)
        if ready.must_save:
""",
        "a proposal is told to be durable, and is not",
    ),
    Mutation(
        "lead before the role is told",
        DRIVER,
        """        for change in ready.role_changes:
            self._tell(change)
        if ready.restored is not None:
            self._application.restore(ready.restored.state)
        if ready.committed:
            self._application.on_committed(ready.committed)
""",
        """        if ready.restored is not None:
            self._application.restore(ready.restored.state)
        if ready.committed:
            self._application.on_committed(ready.committed)
        for change in ready.role_changes:
            self._tell(change)
""",
        "the entry that lets a leader act finds it no leader",
    ),
    Mutation(
        "restore after applying",
        DRIVER,
        """        if ready.restored is not None:
            self._application.restore(ready.restored.state)
        if ready.committed:
            self._application.on_committed(ready.committed)
""",
        """        if ready.committed:
            self._application.on_committed(ready.committed)
        if ready.restored is not None:
            self._application.restore(ready.restored.state)
""",
        "the snapshot takes back what was applied after it",
    ),
    Mutation(
        "a failed write is ignored",
        DRIVER,
        "                self._send(self._raft.keep_alive())\n        saving.result()\n",
        "                self._send(self._raft.keep_alive())\n",
        "promises go on without a disk",
    ),
    Mutation(
        "one key for all pairs",
        SEALING,
        "names = (name.encode() for name in (cluster, sender, receiver))",
        "names = (name.encode() for name in (cluster,))",
        "a datagram can be sent back to its sender, or on to another",
    ),
    Mutation(
        "no end to a datagram's size",
        SEALING,
        "if not _HEADER.size + _GCM_TAG <= len(datagram) <= DATAGRAM_LIMIT:",
        "if not _HEADER.size + _GCM_TAG <= len(datagram):",
        "what no node sends is taken",
    ),
    Mutation(
        "a datagram is taken twice",
        ASSOCIATION,
        "        if not self._proven.window.accept(header.counter):\n            raise",
        "        if header.counter < 0:\n            raise",
        "whoever recorded a datagram sends it again",
    ),
    Mutation(
        "the window forgets",
        ASSOCIATION,
        "        if age >= WINDOW or self.taken >> age & 1:\n",
        "        if self.taken >> age & 1:\n",
        "a datagram that is older than the window is taken again",
    ),
    Mutation(
        "any token will do",
        ASSOCIATION,
        "if not hmac.compare_digest(header.token, self._token_for(header.session)):",
        "if header.token == NO_TOKEN:",
        "what was recorded before a restart is fresh again",
    ),
    Mutation(
        "a token is given twice",
        ASSOCIATION,
        "            self._challenge = self._random(_CHALLENGE_SIZE)\n            self._token = None",
        "            self._token = None",
        "an earlier session of the peer can be played again",
    ),
    Mutation(
        "a forged datagram begins a session",
        ASSOCIATION,
        "        content = self._from.open(header, ciphertext)\n",
        "        self._prove(header)\n        content = self._from.open(header, ciphertext)\n",
        "without the secret somebody moves the window on",
    ),
    Mutation(
        "the counter stands still",
        ASSOCIATION,
        "        self._counter += 1\n",
        "        self._counter = max(self._counter, 1)\n",
        "a nonce is used twice, which gives the key away",
    ),
    Mutation(
        "a receipt closes what it is for",
        AGGREGATOR_WORK,
        "        self._opened[handle] = replace(opened, kept=None)\n",
        "",
        "no round with an answered update becomes a model",
    ),
    Mutation(
        "the chunk that is held is any",
        READING,
        "        if number != self._number:\n",
        "        if not self._chunk:\n",
        "a model's numbers come from other places of the update",
    ),
    Mutation(
        "a file that lost its end is read",
        SPOOL,
        "        if len(content) < stop - start:\n",
        "        if not content and start < stop:\n",
        "damage is taken for a peer's",
    ),
    Mutation(
        "the lost leader counts as up",
        DRIVER,
        "            self._liveness.doubt(self._former_leader, silent_s, self._clock())\n",
        "",
        "updates go along a dead node, and wait for their second turn",
    ),
    Mutation(
        "a message that is not taken is gone",
        LINK,
        "        if problem and message.undelivered is not None:\n",
        "        if not problem and message.undelivered is not None:\n",
        "an update that met a dead node waits for its second turn",
    ),
    Mutation(
        "the same dead relay again",
        OUTBOUND,
        "self._stem.begin(self._relays() - tried)",
        "self._stem.begin(self._relays())",
        "an update knocks at dead nodes as fast as they refuse it",
    ),
    Mutation(
        "many peers are pinged as often as few",
        LIVENESS,
        "        self._pause = max(least, min(len(peers) / PINGS_PER_S, most))\n",
        "        self._pause = least\n",
        "the pings of a large cluster take what its rounds need",
    ),
    Mutation(
        "a link holds the message that it sent last",
        LINK,
        "            await self._send(session, await self._queue.get())\n",
        "            message = await self._queue.get()\n            await self._send(session, message)\n",
        "a node holds a model for each peer until the next round",
    ),
    Mutation(
        "a peer without space has taken the message",
        LINK,
        "        if status == 507:\n",
        "        if status == 508:\n",
        "an update that met a full disk waits for its second turn",
    ),
    Mutation(
        "long messages come into memory",
        BODY,
        "self._spool = spool if length >= LONG_BYTES else None",
        "self._spool = None",
        "all peers' envelopes of a large model at once are more than the node's memory",
    ),
    Mutation(
        "what is large is copied when it is sent",
        PARTS,
        "+ _bin_head(len(large)), large\n",
        "+ _bin_head(len(large)), memoryview(bytes(large))\n",
        "hundreds of MB hold the interpreter, and consensus misses its leader",
    ),
)
