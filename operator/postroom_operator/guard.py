"""The guard as it is in the cluster: workers that may deliver where it is not allowed, and their end.

In: a profile's key. It waits for nothing else, because what a tenant declares can make all else wait or fail:
proofs that take minutes, a Deployment that the API server refuses, a profile that is faulty, or gone with its
workers left behind. Workers become those of the sandbox; where that cannot be, there are none.
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
    """Whether a profile's workers may do what they do, whatever else is to be done for it."""
    return ReconcileKey("Guard", profile.namespace, profile.name)


async def enforce(key: ReconcileKey, context: ReconcileContext) -> ReconcileResult:
    """End what may deliver and must not."""
    if not _violations(key, context):
        return ReconcileResult()
    followed = await _apply_workers(context.observer.profile(profile_key(key.namespace, key.name)), context)
    # what is refused of it, the profile's own reconcile says
    return ReconcileResult(followed.written) + await context.applier.apply(
        _deletion(_violations(key, context))
    )


async def delete_unlabelled(seen: ObservedProfile, context: ReconcileContext) -> ReconcileResult:
    """The same for a Deployment that lost our label, of a profile of which nothing can be made."""
    if seen.delivery_allowed or any(each["kind"] == "Deployment" for each in seen.children):
        return ReconcileResult()
    return await context.applier.apply(_deletion(await _unlabelled(seen.key, context.cluster)))


def _violations(key: ReconcileKey, context: ReconcileContext) -> list[Manifest]:
    """The Deployments of a profile's workers that may deliver and must not."""
    if context.observer.delivery_allowed(key.namespace):
        return []
    made = context.store.worker_objects(key.namespace, key.name)
    return [each for each in made if each["kind"] == "Deployment" and _delivers(each)]


def _delivers(found: Manifest) -> bool:
    return may_deliver(found["spec"].get("template") or {})


def _deletion(found: Iterable[Manifest]) -> Plan:
    return Plan(delete=tuple((ref_of(each), each["metadata"]["uid"]) for each in found))


async def _apply_workers(seen: ObservedProfile, context: ReconcileContext) -> ReconcileResult:
    """Make the workers of a sound profile as they should be, whatever becomes of its templates."""
    view = context.effective_profile(seen, EMPTY_BUNDLE)
    if view is None:
        return ReconcileResult()
    fixed = context.defaults_for(seen)
    wanted = [profile_config_map(view), worker_policy(view, fixed), deployment(view, fixed)]
    return await context.applier.apply(replace(diff(wanted, seen.children, view.uid), delete=()))


async def _unlabelled(key: ReconcileKey, cluster: Cluster) -> list[Manifest]:
    found = await cluster.read(Ref("apps/v1", "Deployment", key.namespace, worker_object(key.name)))
    return [found] if found and is_managed(found) and _delivers(found) else []
