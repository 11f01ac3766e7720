"""All that a node does its work with, named in one place."""

from dataclasses import dataclass

from appliance.datagrams.keys import AgreedKeys
from appliance.mesh.mesh import Mesh
from appliance.node.aggregator_work import AggregatorWork
from appliance.node.credentials import Credentials
from appliance.node.engine import ConsensusEngine
from appliance.node.participant_work import ParticipantWork
from appliance.node.training_hours import TrainingHours
from appliance.node.worker import Worker
from appliance.pki.statements import StatementVerifier
from appliance.storage.models import ModelStore
from appliance.words.clock import Clock


@dataclass(frozen=True, slots=True)
class Shells:
    """Everything with side effects that a conductor uses; made by the composition root."""

    consensus: ConsensusEngine
    keys: AgreedKeys
    mesh: Mesh
    credentials: Credentials
    verifier: StatementVerifier
    models: ModelStore
    participant: Worker
    participant_work: ParticipantWork
    aggregator: Worker
    aggregator_work: AggregatorWork
    clock: Clock
    hours: TrainingHours
