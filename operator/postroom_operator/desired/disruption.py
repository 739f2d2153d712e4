"""How many of a profile's workers a drain of nodes may take at once: ProfileView → PodDisruptionBudget.

Only where more than one can run: a budget for a single worker would either do nothing or block every drain.
"""

from collections.abc import Iterator

from postroom_operator import names
from postroom_operator.cluster import Manifest
from postroom_operator.desired.view import ProfileView, owner


def budget(view: ProfileView) -> Iterator[Manifest]:
    """One worker at a time; a worker that is not ready holds no drain up."""
    if view.most_replicas < 2:
        return
    profile = view.profile
    labels = names.labels("worker", profile.metadata.name)
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": names.workers(profile.metadata.name),
            "namespace": profile.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner(profile, view.uid)],
        },
        "spec": {
            "selector": {"matchLabels": names.selector(labels)},
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
