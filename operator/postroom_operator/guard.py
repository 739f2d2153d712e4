"""The guard as it is in the cluster: workers that may deliver where it is not allowed, and their end.

In: a profile's key. It waits for nothing else, because what a tenant declares can make all else wait or fail:
proofs that take minutes, a Deployment that the API server refuses, a profile that is faulty, or gone with its
workers left behind. Workers become those of the sandbox; where that cannot be, there are none.
"""

from collections.abc import Iterable
from dataclasses import replace

from postroom_operator.apply import Done
from postroom_operator.cluster import Cluster, Manifest, Ref, ref_of
from postroom_operator.desired.bundle import Bundle
from postroom_operator.desired.configmaps import profile_map
from postroom_operator.desired.deployment import deployment, may_deliver
from postroom_operator.desired.network import worker_policy
from postroom_operator.diff import Plan, diff, is_ours
from postroom_operator.names import workers
from postroom_operator.observe import Seen
from postroom_operator.office import Office
from postroom_operator.store import Key, profile_key

NOTHING = Bundle({}, {}, {})


def guard_key(profile: Key) -> Key:
    """Whether a profile's workers may do what they do, whatever else is to be done for it."""
    return Key("Guard", profile.namespace, profile.name)


async def close(key: Key, office: Office) -> Done:
    """End what may deliver and must not."""
    if not _open(key, office):
        return Done()
    followed = await _follow(office.observer.profile(profile_key(key.namespace, key.name)), office)
    # what is refused of it, the profile's own reconcile says
    return Done(followed.written) + await office.hand.apply(_ending(_open(key, office)))


async def withdraw_hidden(seen: Seen, office: Office) -> Done:
    """The same for a Deployment that lost our label, of a profile of which nothing can be made."""
    if seen.delivery_allowed or any(each["kind"] == "Deployment" for each in seen.children):
        return Done()
    return await office.hand.apply(_ending(await _hidden(seen.key, office.cluster)))


def _open(key: Key, office: Office) -> list[Manifest]:
    """The Deployments of a profile's workers that may deliver and must not."""
    if office.observer.delivery_allowed(key.namespace):
        return []
    made = office.store.made(key.namespace, key.name)
    return [each for each in made if each["kind"] == "Deployment" and _delivers(each)]


def _delivers(found: Manifest) -> bool:
    return may_deliver(found["spec"].get("template") or {})


def _ending(found: Iterable[Manifest]) -> Plan:
    return Plan(delete=tuple((ref_of(each), each["metadata"]["uid"]) for each in found))


async def _follow(seen: Seen, office: Office) -> Done:
    """Make the workers of a sound profile as they should be, whatever becomes of its templates."""
    view = office.view(seen, NOTHING)
    if view is None:
        return Done()
    fixed = office.fixed_for(seen)
    wanted = [profile_map(view), worker_policy(view, fixed), deployment(view, fixed)]
    return await office.hand.apply(replace(diff(wanted, seen.children, view.uid), delete=()))


async def _hidden(key: Key, cluster: Cluster) -> list[Manifest]:
    found = await cluster.read(Ref("apps/v1", "Deployment", key.namespace, workers(key.name)))
    return [found] if found and is_ours(found) and _delivers(found) else []
