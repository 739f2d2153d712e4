"""Write the files that workers and the gateway read, as the operator does in a cluster.

Input: the validation result of a folder of manifests. Output: for each profile a folder with `profile.yaml`,
`templates.json` and, with a fallback, `fallback.yaml`; each file is replaced atomically. A template whose
edit does not pass keeps its last good revision. A template whose manifest was removed is removed, unless a
manifest file could not be read: that file may contain it, so nothing that is missing is removed then.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from postroom.letter.bundle import CompiledTemplate, RevisionChoice, pack_bundle, unpack_bundle
from postroom.letter.problems import Rejected
from postroom.letter.profile import SmtpProfile
from postroom.letter.validation.validate import ManifestValidation
from postroom.local.data_folder import write_atomically


@dataclass(frozen=True, slots=True)
class ServedProfile:
    """A profile as workers serve it: its manifest, its live templates, and which of them are held back."""

    profile_dir: str
    manifest: SmtpProfile
    templates: tuple[CompiledTemplate, ...]
    held_back: tuple[str, ...] = ()
    """Templates that serve an older revision because the newest does not pass validation."""
    fallback: SmtpProfile | None = None
    """The profile that `fallbackRef` names, if it exists."""


def profile_dir_name(profile: SmtpProfile) -> str:
    """Return the name of a profile's folder and ledger; it has a namespace prefix except for `default`."""
    metadata = profile.metadata
    return metadata.name if metadata.namespace == "default" else f"{metadata.namespace}.{metadata.name}"


def write_bundles(folder: Path, validation: ManifestValidation, *, complete: bool) -> list[ServedProfile]:
    """Write the files of all profiles; `complete` is false when a manifest could not be read."""
    profiles = _profiles(folder, validation, complete)
    served = [
        replace(_serve(folder, profile, validation, complete), fallback=_fallback(profile, profiles))
        for profile in profiles
    ]
    for profile in served:
        profile_dir = folder / profile.profile_dir
        _write_if_changed(profile_dir / "templates.json", pack_bundle(profile.templates))
        if profile.fallback:
            _write_if_changed(profile_dir / "fallback.yaml", _profile_yaml(profile.fallback))
        else:
            (profile_dir / "fallback.yaml").unlink(missing_ok=True)
        _write_if_changed(profile_dir / "profile.yaml", _profile_yaml(profile.manifest))
    if complete:
        _remove_others(folder, {profile.profile_dir for profile in served})
    return served


def _profile_yaml(profile: SmtpProfile) -> str:
    text = profile.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return yaml.safe_dump(text, sort_keys=False, allow_unicode=True)


def _fallback(profile: SmtpProfile, profiles: Iterable[SmtpProfile]) -> SmtpProfile | None:
    ref, namespace = profile.spec.fallback_ref, profile.metadata.namespace
    if ref is None:
        return None
    wanted = (namespace, ref.name)
    return next((p for p in profiles if (p.metadata.namespace, p.metadata.name) == wanted), None)


def _profiles(folder: Path, validation: ManifestValidation, complete: bool) -> list[SmtpProfile]:
    found = {profile_dir_name(profile): profile for profile in validation.profiles.values()}
    if not complete:
        found = read_profiles(folder) | found
    return [found[profile_dir] for profile_dir in sorted(found)]


def _serve(
    folder: Path, profile: SmtpProfile, validation: ManifestValidation, complete: bool
) -> ServedProfile:
    metadata = profile.metadata
    serving = RevisionChoice()
    valid = {template.name: template for template in validation.compiled(metadata.namespace, metadata.name)}
    live = {name: template for name, template in valid.items() if serving.choose(name, template, None)}
    failed = {
        key.name
        for key, result in validation.results.items()
        if (key.kind, key.namespace) == ("EmailTemplate", metadata.namespace) and not result.passed
    }
    held_back = []
    for before in _previous_templates(folder / profile_dir_name(profile) / "templates.json"):
        maybe_unread = not complete and before.name not in {key.name for key in validation.results}
        keep = before.name not in live and (before.name in failed or maybe_unread)
        if keep and serving.choose(before.name, None, before):
            live[before.name] = before
            held_back.append(before.name)
    return ServedProfile(
        profile_dir_name(profile), profile, tuple(live[name] for name in sorted(live)), tuple(held_back)
    )


def _previous_templates(bundle: Path) -> Iterator[CompiledTemplate]:
    try:
        yield from unpack_bundle(bundle.read_text(encoding="utf-8"))
    except (OSError, Rejected):
        return


def read_profiles(folder: Path) -> dict[str, SmtpProfile]:
    """Read the profiles of a folder of bundles, by the name of their folder; unreadable files are skipped."""
    files = sorted(folder.glob("*/profile.yaml"))
    return {file.parent.name: profile for file in files if (profile := _read_profile(file))}


def _read_profile(file: Path) -> SmtpProfile | None:
    try:
        return SmtpProfile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError):
        return None


def _write_if_changed(path: Path, text: str) -> None:
    """Replace a file unless its text is the same: workers reload a file at each change."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def _remove_others(folder: Path, profile_dirs: set[str]) -> None:
    for profile in folder.glob("*/profile.yaml"):
        if profile.parent.name not in profile_dirs:
            profile.unlink()
            for name in ("templates.json", "fallback.yaml"):
                (profile.parent / name).unlink(missing_ok=True)
