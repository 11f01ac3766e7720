"""Prometheus metrics: the status, as numbers."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.operator_api.views import Status


class _StatusCollector(Collector):
    """Reads one status; nothing is counted twice and nothing is kept between scrapes."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        single = {
            "ready": ("1 when the node follows or leads", float(status.ready)),
            "term": ("Present term of consensus", float(status.term)),
            "leader": ("1 on the leader", float(status.role == "leader")),
            "aggregator_active": ("1 where the aggregator is active", float(status.aggregator == "active")),
            "round": ("Round that is open or to come", float(status.round)),
            "reply_keys_ready": ("RSA keys made ahead", float(status.reply_keys_ready)),
            "uptime_seconds": ("Since the node started", status.uptime_s),
            "certificate_expires_timestamp_seconds": ("When the certificate expires", status.certificate.expires_at),
            "authority_expires_timestamp_seconds": (
                "When the authority's does",
                status.certificate.authority_expires_at,
            ),
        }
        if status.period_left_s is not None:
            single["period_left_seconds"] = ("Until this leader resigns", status.period_left_s)
        if status.model is not None:
            single["model_version"] = ("Version of the global model", float(status.model.version))
            single["model_accuracy_ratio"] = ("Accuracy on the leader's held-out data", status.model.accuracy)
            single["model_withheld"] = ("1 if the last round made none to publish", float(bool(status.model.withheld)))
            single["model_loss"] = ("Cross entropy on the leader's held-out data", status.model.loss)
        for name, (text, value) in single.items():
            yield GaugeMetricFamily(f"p2pfl_{name}", text, value=value)
        yield from self._labelled()

    def _labelled(self) -> Iterator[Metric]:
        status, network = self._status, self._status.network
        up = {peer: float(state == "up") for peer, state in status.peers.items()}
        waiting: dict[str, float] = {wait.who: wait.since_s for wait in status.waiting}
        yield self._gauge("peer_up", "1 for a peer that was heard of lately", "peer", up)
        yield self._gauge("turns", "How often each node was elected", "node", status.turns)
        yield self._gauge("waiting_seconds", "How long the node has waited", "who", waiting)
        yield self._gauge("mesh_messages_lost", "Messages given up since the start", "peer", network.messages_lost)
        yield self._gauge(
            "consensus_datagrams_refused", "Datagrams refused since the start", "peer", network.datagrams_refused
        )

    @staticmethod
    def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        family = GaugeMetricFamily(f"p2pfl_{name}", text, labels=[label])
        for key, value in sorted(values.items()):
            family.add_metric([key], value)
        return family


def exposition(status: Status) -> bytes:
    """Return a status in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry)
