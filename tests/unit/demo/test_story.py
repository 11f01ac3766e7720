"""The demonstration's own patience: it must not end while a node has yet to hear of the last commit."""

from contextlib import closing

from appliance.demo.story import Story
from appliance.operator_api.views import Status
from tests.unit.lineage.test_lineage import model
from tests.unit.local.test_watch import Node, cluster

ROUNDS = 6


class Silent:
    """A display that shows nothing."""

    def say(self, text: str) -> None: ...

    def show(self, states: dict[str, Status | None]) -> None: ...


def test_it_is_over_only_when_every_node_has_heard_of_the_last_round() -> None:
    lineage = [model(round_) for round_ in range(ROUNDS + 1)]
    nodes = [Node(f"node{number}", version=ROUNDS, models=lineage) for number in range(3)]
    with closing(Story(cluster(*nodes), ROUNDS, Silent())) as story:
        nodes[2].version = ROUNDS - 1
        story.poll()
        assert not story.is_over(), "one node lacks the last round"
        nodes[2].answers = False
        story.poll()
        assert not story.is_over(), "one node does not answer"
        nodes[2].answers, nodes[2].version = True, ROUNDS
        story.poll()
        assert story.is_over()
