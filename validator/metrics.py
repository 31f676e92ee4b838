"""The daemon's metrics: `quiver_<thing>_<unit>`, present from the start at zero."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from validator.epoch import CertifiedOutcome


class Metrics:
    """Counters and gauges of one node, on a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.epochs_certified = Counter("quiver_epochs_certified", "Epochs certified with us", registry=registry)
        self.epochs_abandoned = Counter("quiver_epochs_abandoned", "Epochs that ended without us", registry=registry)
        self.probes_scored = Counter("quiver_probes_scored", "Probes scored, all seats", registry=registry)
        self.probes_unscored = Counter(
            "quiver_probes_unscored", "Probes without a score, all seats", ["reason"], registry=registry
        )
        self.last_epoch = Gauge("quiver_last_certified_epoch", "Number of the last certified epoch", registry=registry)
        self.round_seconds = Histogram(
            "quiver_round_seconds", "Length of a round", buckets=(1, 5, 10, 30, 60, 120, 300), registry=registry
        )

    def observe(self, certified: CertifiedOutcome, seconds: float) -> None:
        """Count a certified epoch."""
        self.epochs_certified.inc()
        self.last_epoch.set(certified.context.epoch)
        self.round_seconds.observe(seconds)
        for message in certified.reveals.values():
            for outcome in message.reveal.outcomes:
                if outcome.reason:
                    self.probes_unscored.labels(outcome.reason).inc()
                else:
                    self.probes_scored.inc()
