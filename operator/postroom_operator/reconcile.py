"""READ FIRST: one key made as it should be: observe → desired → plan → apply → status.

What is desired is pure; the plan says and does nothing; only `hand` writes. Each step may be done again: a
process that dies between two of them leaves nothing that the next run does not make good.
"""

from postroom.failpoint import reach
from postroom_operator.apply import Done
from postroom_operator.cluster import Manifest
from postroom_operator.describe import describe_layout, describe_profile
from postroom_operator.desired import bounces, sandbox
from postroom_operator.desired.bundle import Bundle, bundle_of
from postroom_operator.desired.profile import ProfileView, manifests
from postroom_operator.diff import Plan, diff, stale_pods
from postroom_operator.guard import close, withdraw_hidden
from postroom_operator.names import BUNDLE_HASH
from postroom_operator.observe import Seen, proofs_of, strangers
from postroom_operator.office import Office
from postroom_operator.store import Key
from postroom_operator.verdict import judge, settle


async def reconcile(key: Key, office: Office) -> Done:
    """Make a key as it should be; what was written, and what the API server does not take."""
    if key.kind == "EmailLayout":
        return await office.hand.write(await describe_layout(key, office))
    return await (_sandbox if key.kind == "Sandbox" else _profile)(key, office)


async def _profile(key: Key, office: Office) -> Done:
    seen = office.observer.profile(key)
    reach("observed")
    standings = judge(seen.templates, await proofs_of(seen, office.prover), seen.around)
    reach("proved")
    bundle = bundle_of(standings, seen.served, seen.foreign)
    view = office.view(seen, bundle)
    done = await (_make(seen, view, bundle, office) if view else withdraw_hidden(seen, office))
    done += await close(key, office)
    settled = settle(standings, office.reached(seen, bundle, done), bundle.problems, bundle.missed)
    done += Done(refused=bundle.obstacle)
    return done + await office.hand.write(describe_profile(seen, view, settled, done, office))


async def _make(seen: Seen, view: ProfileView, bundle: Bundle, office: Office) -> Done:
    plan = await _plan(manifests(view, office.fixed_for(seen)), seen.children, office, view.uid)
    told = stale_pods(seen.pods, bundle.hash)
    return await office.hand.apply(plan) + await office.hand.tell_pods(told, {BUNDLE_HASH: bundle.hash})


async def _sandbox(key: Key, office: Office) -> Done:
    seen = office.observer.sandbox(key)
    if seen is None:
        return Done()
    fixed = office.fixed()
    desired = sandbox.manifests(key.namespace, seen.owners, fixed)
    desired += bounces.manifests(key.namespace, seen.bouncing, fixed)
    return await office.hand.apply(await _plan(desired, seen.children, office))


async def _plan(
    desired: list[Manifest], seen: tuple[Manifest, ...], office: Office, owner: str | None = None
) -> Plan:
    plan = diff(desired, seen, owner)
    found = await strangers(plan.apply, seen, office.cluster)
    return diff(desired, [*seen, *found], owner) if found else plan
