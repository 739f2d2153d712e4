"""READ FIRST: everything that one SmtpProfile asks of the cluster, in the order in which it is applied.

ProfileView and Fixed in, manifests out: exactly the fields that we own. The ConfigMaps and the NetworkPolicy
come before the Deployment, so that no worker starts on what its profile said before, or without its walls.
"""

from postroom_operator.cluster import Manifest
from postroom_operator.desired.autoscaler import autoscaler
from postroom_operator.desired.configmaps import bundle_maps, profile_map
from postroom_operator.desired.deployment import deployment
from postroom_operator.desired.disruption import budget
from postroom_operator.desired.network import worker_policy
from postroom_operator.desired.view import Fixed, KafkaAccess, ProfileView

__all__ = ["Fixed", "KafkaAccess", "ProfileView", "manifests"]


def manifests(view: ProfileView, fixed: Fixed) -> list[Manifest]:
    """What should be there for a profile."""
    return [
        *bundle_maps(view),
        profile_map(view),
        worker_policy(view, fixed),
        deployment(view, fixed),
        *budget(view),
        *autoscaler(view, fixed),
    ]
