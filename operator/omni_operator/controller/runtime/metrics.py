"""What the operator reports to Prometheus about itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from omni_operator.kube.client import Kube


class Metrics:
    """Counters of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Histogram(
            "omni_operator_reconcile_seconds", "Time of one reconcile of an OmniDeployment.", registry=self.registry
        )
        self.errors = Counter(
            "omni_operator_reconcile_errors", "Reconciles that ended in an error.", registry=self.registry
        )
        self.depth = Gauge(
            "omni_operator_queue_depth", "OmniDeployments that wait for a reconcile.", registry=self.registry
        )

    def count_requests_of(self, kube: Kube) -> None:
        """Shows the client's request counts."""
        self.registry.register(_Requests(kube))


class _Requests(Collector):
    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def collect(self) -> list[Metric]:
        """One sample per verb and kind."""
        family = CounterMetricFamily(
            "omni_operator_api_requests", "Requests to the API server.", labels=["verb", "kind"]
        )
        for (verb, kind), count in self._kube.requests.items():
            family.add_metric([verb, kind], count)
        return [family]
