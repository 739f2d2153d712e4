"""The delivery guard: end workers that may send letters out of a namespace without the delivery label.

Input: a profile's key. The guard has a queue of its own and depends on nothing else, because a tenant can
delay or break all other steps: templates whose validation takes minutes, a Deployment that the API server
rejects, an invalid profile, or a deleted profile whose workers were left behind. The guard replaces the
workers by those of the sandbox; where that is not possible it deletes their Deployment.
"""

from collections.abc import Iterable
from dataclasses import replace

from postroom_operator.apply import ReconcileResult
from postroom_operator.context import ReconcileContext
from postroom_operator.desired.bundle import Bundle, profile_config_map
from postroom_operator.desired.deployment import deployment, may_deliver
from postroom_operator.desired.network import worker_policy
from postroom_operator.diff import Plan, diff, is_managed
from postroom_operator.models import Cluster, Manifest, Ref, ref_of
from postroom_operator.names import worker_object
from postroom_operator.observe import ObservedProfile
from postroom_operator.store import ReconcileKey, profile_key

EMPTY_BUNDLE = Bundle({}, {}, {})


def guard_key(profile: ReconcileKey) -> ReconcileKey:
    """The key of a profile on the guard's queue."""
    return ReconcileKey("Guard", profile.namespace, profile.name)


async def enforce(key: ReconcileKey, context: ReconcileContext) -> ReconcileResult:
    """End the workers of a profile that may deliver where delivery is not allowed."""
    if not _violations(key, context):
        return ReconcileResult()
    observed = context.observer.profile(profile_key(key.namespace, key.name))
    applied = await _apply_workers(observed, context)
    deleted = await context.applier.apply(_deletion(_violations(key, context)))
    # rejected objects are reported by the profile's own reconcile
    return ReconcileResult(applied.written) + deleted


async def delete_unlabelled(observed: ObservedProfile, context: ReconcileContext) -> ReconcileResult:
    """Delete a delivering Deployment that lost the operator's label, where its profile cannot be applied."""
    if observed.delivery_allowed or any(child["kind"] == "Deployment" for child in observed.children):
        return ReconcileResult()
    return await context.applier.apply(_deletion(await _unlabelled(observed.key, context.cluster)))


def _violations(key: ReconcileKey, context: ReconcileContext) -> list[Manifest]:
    """The Deployments of a profile that may deliver where delivery is not allowed."""
    if context.observer.delivery_allowed(key.namespace):
        return []
    children = context.store.worker_objects(key.namespace, key.name)
    return [child for child in children if child["kind"] == "Deployment" and _delivers(child)]


def _delivers(deployed: Manifest) -> bool:
    return may_deliver(deployed["spec"].get("template") or {})


def _deletion(manifests: Iterable[Manifest]) -> Plan:
    return Plan(delete=tuple((ref_of(manifest), manifest["metadata"]["uid"]) for manifest in manifests))


async def _apply_workers(observed: ObservedProfile, context: ReconcileContext) -> ReconcileResult:
    """Apply the workers of a valid profile without its templates."""
    profile = context.effective_profile(observed, EMPTY_BUNDLE)
    if profile is None:
        return ReconcileResult()
    defaults = context.defaults_for(observed)
    desired = [
        profile_config_map(profile),
        worker_policy(profile, defaults),
        deployment(profile, defaults),
    ]
    return await context.applier.apply(replace(diff(desired, observed.children, profile.uid), delete=()))


async def _unlabelled(key: ReconcileKey, cluster: Cluster) -> list[Manifest]:
    found = await cluster.read(Ref("apps/v1", "Deployment", key.namespace, worker_object(key.name)))
    return [found] if found and is_managed(found) and _delivers(found) else []
