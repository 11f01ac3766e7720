"""Encoded updates: what rounding loses, when that holds, and what a leader takes for an update."""

from tests.mutations.mutation import Mutation

ENCODING = "appliance/aggregation/encoding.py"
MODELS = "appliance/storage/models.py"
FILES = "appliance/storage/files.py"
ENCODER = "appliance/node/encoder.py"
AGGREGATOR_WORK = "appliance/node/aggregator_work.py"
PARTICIPANT_WORK = "appliance/node/participant_work.py"
PARTICIPANT = "appliance/rounds/participant.py"
CORE = "appliance/node/core.py"

COMPRESSION = (
    Mutation(
        "no error feedback",
        ENCODING,
        "            wanted += self._residual[part]\n",
        "            pass\n",
        "what is rounded away in each round never arrives",
    ),
    Mutation(
        "rounding towards zero",
        ENCODING,
        "np.rint(scaled)",
        "np.trunc(scaled)",
        "twice the error",
    ),
    Mutation(
        "a sum beyond float32 is infinite",
        ENCODING,
        "np.clip(exact, _FLOAT32.min, _FLOAT32.max, out=exact)",
        "exact",
        "one hostile update makes the global model infinite",
    ),
    Mutation(
        "any scale will do",
        ENCODING,
        "    if not bool((np.isfinite(scales) & (scales >= 0)).all()):\n",
        "    if not bool((scales == scales).all()):\n",
        "infinity times zero is no number",
    ),
    Mutation(
        "any value will do",
        ENCODING,
        "        if not _is_in_range(encoded[tensor.name], form.largest):\n",
        "        if not form.largest:\n",
        "NaN in float16 gets into the global model",
    ),
    Mutation(
        "a residual holds whoever committed the round",
        MODELS,
        "(found.update_id, found.term) == (update_id, term)",
        "found.update_id == update_id",
        "what never counted is taken to have counted",
    ),
    Mutation(
        "a residual holds for any update",
        MODELS,
        "(found.update_id, found.term) == (update_id, term)",
        "found.term == term",
        "what another update lost is added",
    ),
    Mutation(
        "the update is forgotten before its residual holds",
        PARTICIPANT_WORK,
        "        self._encoder.settle(update_id, term)\n        with self._keeping:\n"
        "            record = self._updates.get()\n"
        "            if not isinstance(record, Absent) and record.update_id == update_id:\n"
        "                self._updates.drop()\n",
        "        with self._keeping:\n"
        "            record = self._updates.get()\n"
        "            if not isinstance(record, Absent) and record.update_id == update_id:\n"
        "                self._updates.drop()\n        self._encoder.settle(update_id, term)\n",
        "after a crash in between nobody settles it any more",
    ),
    Mutation(
        "a refused update counts",
        PARTICIPANT_WORK,
        "        if message.accepted:\n            self._encoder",
        "        if message.update_id:\n            self._encoder",
        "the next update lacks what the refused one would have brought",
    ),
    Mutation(
        "a damaged residual stops the update",
        ENCODER,
        'log.warning("the residual of earlier updates is of no use and is dropped: %s", error.reason)',
        "raise",
        "a bad file keeps a node out of all rounds",
    ),
    Mutation(
        "no fsync of the folder after a residual's rename",
        FILES,
        "    fsync_folder(target.parent)\n",
        "",
        "after power loss the former residual can hold again, and is added twice",
    ),
    Mutation(
        "an update in any encoding is decoded",
        AGGREGATOR_WORK,
        "            if update.encoding != self._encoding:\n",
        "            if not update.encoding:\n",
        "its author is told that its bytes are broken",
    ),
    Mutation(
        "a round's term stands for each before it",
        PARTICIPANT,
        "counted = model.round == self._kept.round and model.has_updates",
        "counted = model.has_updates",
        "an update of a round that was missed is taken to have counted",
    ),
    Mutation(
        "a rollback stands for the round whose place it takes",
        PARTICIPANT,
        "counted = model.round == self._kept.round and model.has_updates",
        "counted = model.round == self._kept.round",
        "an update of a round that an operator ended is taken to have counted",
    ),
    Mutation(
        "a snapshot tells of the newest round only",
        CORE,
        "if model is head or model.round == self.participant.kept_round]",
        "if model is head]",
        "what a counted update lost is forgotten by a node that was down meanwhile",
    ),
    Mutation(
        "differences to a base that is not here",
        PARTICIPANT,
        '        if opening.encoding != "float32" and opening.base not in self._stored:\n'
        "            return self._obtain_base(opening, now)  # what is sent is the difference to it\n",
        "",
        "the finished update can't be sealed, again and again",
    ),
    Mutation(
        "the exact update whatever the leader says",
        PARTICIPANT,
        "Deliver(kept.update_id, opening.token_key, opening.encoding, within_s)",
        'Deliver(kept.update_id, opening.token_key, "float32", within_s)',
        "it is refused",
    ),
)
