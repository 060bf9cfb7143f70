"""SpRAy, for comparison: the maps of a class themselves are clustered, without looking at what lies under them.

Lapuschkin et al. 2019, "Unmasking Clever Hans predictors": downsized maps, a graph of nearest neighbours, and spectral
clustering with as many clusters as the eigengap of the graph's Laplacian says.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.csgraph import laplacian
from sklearn.cluster import KMeans
from sklearn.neighbors import kneighbors_graph

from engine.discovery.audited import Audited

NEIGHBOURS = 10
"""Neighbours of a map in the graph."""
MOST_CLUSTERS = 12
"""The eigengap is looked for among this many eigenvalues."""
MAPS = 1_500
"""Maps of a class that are clustered; the eigenvalues of larger graphs take minutes."""


def spray(audited: Audited, class_index: int) -> list[NDArray[np.bool_]]:
    """Cluster the maps of the predictions of a class.

    Returns:
        The members of each cluster, the most conspicuous first: by the share of wrong predictions where labels tell, then by
        size, the smallest first, as a person would look through them.
    """
    rows = np.flatnonzero((audited.pred == class_index) & audited.known)
    rng = audited.rng("spray", class_index)
    if len(rows) > MAPS:
        rows = np.sort(rng.choice(rows, MAPS, replace=False))
    if len(rows) <= NEIGHBOURS:
        return []
    labels = spectral_clusters(audited.p[rows], int(rng.integers(2**31)))
    found = []
    for k in np.unique(labels):
        members = np.zeros(audited.n, dtype=bool)
        members[rows[labels == k]] = True
        found.append(members)

    def conspicuous(members: NDArray[np.bool_]) -> tuple[float, int]:
        told = members & audited.labelled
        rate = float(audited.wrong[told].mean()) if told.any() else 0.0
        return -rate, int(members.sum())

    return sorted(found, key=conspicuous)


def spectral_clusters(maps: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Return the cluster of each map, (n, 196), by the eigenvectors of the graph's normalised Laplacian."""
    graph = kneighbors_graph(maps, min(NEIGHBOURS, len(maps) - 1), include_self=False)
    affinity = np.asarray((graph + graph.T).todense() > 0, np.float64)
    values, vectors = eigh(
        laplacian(affinity, normed=True), subset_by_index=(0, min(MOST_CLUSTERS, len(maps) - 1))
    )
    count = max(int(np.diff(values).argmax()) + 1, 2)
    embedded = vectors[:, :count]
    embedded = embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = KMeans(count, n_init=4, random_state=seed).fit_predict(embedded)
    return np.asarray(labels, np.int64)
