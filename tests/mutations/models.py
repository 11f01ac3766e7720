"""Going back to a former model, keeping a bad one back, and which bytes stay."""

from tests.mutations.mutation import Mutation

LINEAGE = "appliance/lineage/lineage.py"
CORE = "appliance/node/core.py"
AGGREGATOR = "appliance/rounds/aggregator.py"
COLLECTED = "appliance/rounds/collected.py"
STORE = "appliance/storage/models.py"

MODELS = (
    Mutation(
        "a rollback to anything",
        LINEAGE,
        "            return not model.withheld and target is not None and target.digest == model.digest\n",
        "            return not model.withheld and target is not None\n",
        "a leader has all go back to bytes that nobody ever had",
    ),
    Mutation(
        "rounds without a model are the newest models",
        LINEAGE,
        "islice(dict.fromkeys(model.digest for model in reversed(self._models)), rule.keep)",
        "(model.digest for model in self._models[-rule.keep :])",
        "some withheld models later there is nothing to go back to",
    ),
    Mutation(
        "what is said to be held may go",
        CORE,
        "                self._undecided[action.message.digest] = self.term\n",
        "                pass\n",
        "a rollback is committed, and a node that counted for its majority has removed the bytes (invariant 3)",
    ),
    Mutation(
        "what is asked for may go",
        CORE,
        "            wanted |= {self.aggregator.rollback.digest}\n",
        "            pass\n",
        "the commit before a rollback removes its bytes",
    ),
    Mutation(
        "what was not published stays",
        CORE,
        "self._decided(entry.term + 1 if is_own else entry.term, {model.digest})",
        "self._decided(entry.term, {model.digest})",
        "each withheld model fills the leader's disk for as long as it leads",
    ),
    Mutation(
        "what is doomed goes",
        STORE,
        "            self._doomed.discard(digest)\n",
        "            pass\n",
        "a model that was stored again is removed after its holder said that it is durable (invariant 3)",
    ),
    Mutation(
        "the guard looks away",
        COLLECTED,
        "base.accuracy - made.metrics.accuracy <= most_drop:",
        "made.metrics.accuracy - base.accuracy <= most_drop:",
        "a ruined model is published, and a good one is not",
    ),
    Mutation(
        "a rollback interrupts a commit",
        AGGREGATOR,
        "is_leaving or self._phase not in (Phase.RESTING, Phase.COLLECTING):",
        "is_leaving or self._phase is Phase.PREPARING:",
        "two candidates of one round are on their way",
    ),
)
