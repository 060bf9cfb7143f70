"""Confidence intervals of proportions, for the pages: they belong to the cache, since the engine needs them too."""

from cache.intervals import CONFIDENCE, Interval, newcombe, wilson

__all__ = ["CONFIDENCE", "Interval", "newcombe", "wilson"]
