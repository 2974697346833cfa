"""What the service counts, in Prometheus's words; a registry for each application."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The labels are few: templates of routes and not addresses, codes and not messages."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "reidseg_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "reidseg_request_seconds",
            "From a request's first byte to the last of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "reidseg_embedding_batch_size",
            "Images that went through the network together.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self.embed_waiting = Gauge(
            "reidseg_embedding_waiting",
            "Images that wait for the network.",
            registry=self.registry,
        )
        self.gallery_waiting = Gauge(
            "reidseg_gallery_jobs",
            "Searches and reads that run or wait.",
            registry=self.registry,
        )
        self.rows = Gauge("reidseg_gallery_rows", "Rows.", registry=self.registry)
        self.degraded = Gauge(
            "reidseg_degraded",
            "1 where the gallery cannot be read anew or written.",
            registry=self.registry,
        )
        self.rejected = Counter(
            "reidseg_uploads_rejected",
            "Images that were refused, by the error's code.",
            ("code",),
            registry=self.registry,
        )
        self.replaced = Gauge(
            "reidseg_decoders_replaced",
            "Decoder processes that died or hung, and were replaced.",
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return bytes(generate_latest(self.registry))
