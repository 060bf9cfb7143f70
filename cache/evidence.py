"""Which of a run's methods say the same on its network, and count as one witness."""

from __future__ import annotations

from collections.abc import Sequence

from cache.manifest import Manifest


def same_evidence(manifest: Manifest, methods: Sequence[str]) -> list[tuple[str, ...]]:
    """Part methods into those that coincide on this network, as the manifest says; most are on their own.

    A method's entry may name only some of those that coincide with it: what is equal to the same is equal.
    """
    groups: list[set[str]] = []
    for method, entry in manifest.methods.items():
        named = {method, *entry.get("equivalent", [])}
        alike = [group for group in groups if named & group]
        groups = [group for group in groups if group not in alike] + [named.union(*alike)]
    chosen = [tuple(method for method in methods if method in group) for group in groups]
    return sorted((group for group in chosen if group), key=lambda group: methods.index(group[0]))
