"""Tables made from protobuf descriptions, as Reverb's stand-alone server takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reverie.reverb import rate_limiters
from reverie.reverb.cc.selectors import selector_from_options as selector_from_proto
from reverie.reverb.server import Table

__all__ = ["rate_limiter_from_proto", "selector_from_proto", "tables_from_proto"]


def rate_limiter_from_proto(proto: Any) -> rate_limiters.RateLimiter:
    """The rate limiter of a `RateLimiterCheckpoint`; errors as `RateLimiter`'s."""
    return rate_limiters.RateLimiter(
        samples_per_insert=proto.samples_per_insert,
        min_size_to_sample=proto.min_size_to_sample,
        min_diff=proto.min_diff,
        max_diff=proto.max_diff,
    )


def tables_from_proto(configs: Sequence[Any]) -> Sequence[Table]:
    """New, empty tables with the settings of `PriorityTableCheckpoint` messages.

    Signatures are left out, as in Reverb. Errors as `Table`'s.
    """
    return [
        Table(
            name=config.table_name,
            sampler=selector_from_proto(config.sampler),
            remover=selector_from_proto(config.remover),
            max_size=config.max_size,
            rate_limiter=rate_limiter_from_proto(config.rate_limiter),
            max_times_sampled=config.max_times_sampled,
        )
        for config in configs
    ]
