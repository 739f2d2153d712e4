"""READ FIRST: one key made as it should be: observe → desired → plan → apply → status.

What is observed is the store's; what is desired is pure; the plan says and does nothing; only `hand` writes.
Each step may be done again, and a process that dies between two of them leaves nothing that the next run
does not make good.
"""

from postroom.failpoint import reach
from postroom_operator.apply import Done
from postroom_operator.describe import describe_layout, describe_profile
from postroom_operator.desired import sandbox
from postroom_operator.desired.bundle import Bundle, assign
from postroom_operator.desired.profile import ProfileView, manifests
from postroom_operator.diff import diff, stale_pods
from postroom_operator.names import BUNDLE_HASH
from postroom_operator.observe import Seen, proofs_of, strangers
from postroom_operator.office import Office
from postroom_operator.store import Key
from postroom_operator.verdict import judge, settle


async def reconcile(key: Key, office: Office) -> Done:
    """Make a key as it should be; what was written, and what the API server does not take."""
    match key.kind:
        case "EmailLayout":
            return await office.hand.write(await describe_layout(key, office))
        case "Sandbox":
            return await _sandbox(key, office)
        case _:
            return await _profile(key, office)


async def _profile(key: Key, office: Office) -> Done:
    seen = office.observer.profile(key)
    reach("observed")
    standings = judge(seen.templates, await proofs_of(seen, office.prover), seen.around)
    bundle = assign([each.serving for each in standings if each.serving], seen.served)
    reach("proved")
    view = office.view(seen, bundle)
    done = await _make(seen, view, bundle, office) if view else Done()
    settled = settle(standings, bundle.served, bundle.problems)
    return done + await office.hand.write(describe_profile(seen, view, settled, done, office))


async def _make(seen: Seen, view: ProfileView, bundle: Bundle, office: Office) -> Done:
    desired = manifests(view, office.fixed())
    plan = diff(desired, seen.children, view.uid)
    if found := await strangers(plan.apply, seen.children, office.cluster):
        plan = diff(desired, [*seen.children, *found], view.uid)
    reach("planned")
    done = await office.hand.apply(plan)
    return done + await office.hand.tell_pods(stale_pods(seen.pods, bundle.hash), {BUNDLE_HASH: bundle.hash})


async def _sandbox(key: Key, office: Office) -> Done:
    owners, children = office.observer.sandbox(key)
    desired = sandbox.manifests(key.namespace, owners, office.fixed())
    plan = diff(desired, children)
    if found := await strangers(plan.apply, children, office.cluster):
        plan = diff(desired, [*children, *found])
    return await office.hand.apply(plan)
