"""READ FIRST: one key made as it should be: observe → desired → plan → apply → status.

What is desired is pure; the plan says and does nothing; only `hand` writes. Each step may be done again: a
process that dies between two of them leaves nothing that the next run does not make good.
"""

from postroom.failpoint import reach
from postroom_operator.apply import ReconcileResult
from postroom_operator.build_status import build_layout_status, build_profile_status
from postroom_operator.context import ReconcileContext
from postroom_operator.desired import bounces, sandbox
from postroom_operator.desired.bundle import Bundle, build_bundle
from postroom_operator.desired.inputs import EffectiveProfile
from postroom_operator.desired.profile import profile_manifests
from postroom_operator.diff import Plan, diff, stale_pods
from postroom_operator.guard import delete_unlabelled, enforce
from postroom_operator.models import Manifest
from postroom_operator.names import BUNDLE_HASH
from postroom_operator.observe import ObservedProfile, foreign_objects, validate_templates
from postroom_operator.store import ReconcileKey
from postroom_operator.templates import evaluate, finalize


async def reconcile(key: ReconcileKey, context: ReconcileContext) -> ReconcileResult:
    """Make a key as it should be; what was written, and what the API server does not take."""
    if key.kind == "EmailLayout":
        return await context.applier.write_statuses(await build_layout_status(key, context))
    return await (_sandbox if key.kind == "Sandbox" else _profile)(key, context)


async def _profile(key: ReconcileKey, context: ReconcileContext) -> ReconcileResult:
    seen = context.observer.profile(key)
    reach("observed")
    standings = evaluate(
        seen.templates, await validate_templates(seen, context.validator), seen.validation_context
    )
    reach("validated")
    bundle = build_bundle(standings, seen.served, seen.foreign_shards)
    view = context.effective_profile(seen, bundle)
    done = await (_make(seen, view, bundle, context) if view else delete_unlabelled(seen, context))
    done += await enforce(key, context)
    settled = finalize(
        standings, context.served_after(seen, bundle, done), bundle.problems, bundle.irreplaceable
    )
    done += ReconcileResult(refused=bundle.obstacle)
    return done + await context.applier.write_statuses(
        build_profile_status(seen, view, settled, done, context)
    )


async def _make(
    seen: ObservedProfile, view: EffectiveProfile, bundle: Bundle, context: ReconcileContext
) -> ReconcileResult:
    plan = await _plan(profile_manifests(view, context.defaults_for(seen)), seen.children, context, view.uid)
    told = stale_pods(seen.pods, bundle.hash)
    return await context.applier.apply(plan) + await context.applier.annotate_pods(
        told, {BUNDLE_HASH: bundle.hash}
    )


async def _sandbox(key: ReconcileKey, context: ReconcileContext) -> ReconcileResult:
    seen = context.observer.namespace(key)
    if seen is None:
        return ReconcileResult()
    fixed = context.defaults()
    desired = sandbox.sandbox_manifests(key.namespace, seen.sandbox_profiles, fixed)
    desired += bounces.bounces_manifests(key.namespace, seen.bounce_profiles, fixed)
    return await context.applier.apply(await _plan(desired, seen.children, context))


async def _plan(
    desired: list[Manifest], seen: tuple[Manifest, ...], context: ReconcileContext, owner: str | None = None
) -> Plan:
    plan = diff(desired, seen, owner)
    found = await foreign_objects(plan.apply, seen, context.cluster)
    return diff(desired, [*seen, *found], owner) if found else plan
