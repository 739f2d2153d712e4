"""READ FIRST: one key → the cluster as it should be: observe → desired → diff → apply → status.

The desired manifests and the diff are pure; only the context's `applier` writes. Every step can be repeated:
when the process dies between two steps, the next run completes them. Failure: see `apply`.
"""

from postroom.failpoint import reach
from postroom_operator.apply import ReconcileResult
from postroom_operator.build_status import build_layout_status, build_profile_status
from postroom_operator.context import ReconcileContext
from postroom_operator.desired.bounces import bounces_manifests
from postroom_operator.desired.bundle import Bundle, build_bundle
from postroom_operator.desired.inputs import EffectiveProfile
from postroom_operator.desired.profile import profile_manifests
from postroom_operator.desired.sandbox import sandbox_manifests
from postroom_operator.diff import Plan, diff, stale_pods
from postroom_operator.guard import delete_unlabelled, enforce
from postroom_operator.models import Manifest
from postroom_operator.names import BUNDLE_HASH
from postroom_operator.observe import ObservedProfile, foreign_objects, validate_templates
from postroom_operator.store import ReconcileKey
from postroom_operator.templates import evaluate, finalize


async def reconcile(key: ReconcileKey, context: ReconcileContext) -> ReconcileResult:
    """Bring a key's objects into their desired state; returns what was written and what was rejected."""
    if key.kind == "EmailLayout":
        return await context.applier.write_statuses(await build_layout_status(key, context))
    return await (_namespace if key.kind == "Sandbox" else _profile)(key, context)


async def _profile(key: ReconcileKey, context: ReconcileContext) -> ReconcileResult:
    observed = context.observer.profile(key)
    reach("observed")
    validations = await validate_templates(observed, context.validator)
    states = evaluate(observed.templates, validations, observed.validation_context)
    reach("validated")
    bundle = build_bundle(states, observed.served, observed.foreign_shards)
    profile = context.effective_profile(observed, bundle)
    result = await (
        _apply(observed, profile, bundle, context) if profile else delete_unlabelled(observed, context)
    )
    result += await enforce(key, context)
    served = context.served_after(observed, bundle, result)
    states = finalize(states, served, bundle.problems, bundle.irreplaceable)
    result += ReconcileResult(refused=bundle.obstacle)
    updates = build_profile_status(observed, profile, states, result, context)
    return result + await context.applier.write_statuses(updates)


async def _apply(
    observed: ObservedProfile, profile: EffectiveProfile, bundle: Bundle, context: ReconcileContext
) -> ReconcileResult:
    desired = profile_manifests(profile, context.defaults_for(observed))
    result = await context.applier.apply(await _plan(desired, observed.children, context, profile.uid))
    outdated = stale_pods(observed.pods, bundle.hash)
    return result + await context.applier.annotate_pods(outdated, {BUNDLE_HASH: bundle.hash})


async def _namespace(key: ReconcileKey, context: ReconcileContext) -> ReconcileResult:
    observed = context.observer.namespace(key)
    if observed is None:
        return ReconcileResult()
    defaults = context.defaults()
    desired = sandbox_manifests(key.namespace, observed.sandbox_profiles, defaults)
    desired += bounces_manifests(key.namespace, observed.bounce_profiles, defaults)
    return await context.applier.apply(await _plan(desired, observed.children, context))


async def _plan(
    desired: list[Manifest],
    observed: tuple[Manifest, ...],
    context: ReconcileContext,
    owner: str | None = None,
) -> Plan:
    plan = diff(desired, observed, owner)
    foreign = await foreign_objects(plan.apply, observed, context.cluster)
    return diff(desired, [*observed, *foreign], owner) if foreign else plan
