"""When samples and inserts may pass: values for `limiter=`."""

from __future__ import annotations

from reverie.tables.limiters import Limiter, MinSize, Queue, SampleToInsertRatio, Staleness

__all__ = ["Limiter", "MinSize", "Queue", "SampleToInsertRatio", "Staleness"]
