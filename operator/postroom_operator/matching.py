"""Whether an object of the cluster holds all that we want of it: (wanted, found) → bool.

What the server or others added is overlooked: keys of a map, and elements of a list whose elements have an
identity (containers, volumes, …; the server merges those by key). Any other list is one value, as it is for
server-side apply, and so is a selector: both have to be equal. `500m` and `0.5` are the same quantity.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""`x-kubernetes-list-map-keys` of the lists that we write, by the field's name."""
_PORT_KEYS = (("containerPort", "protocol"), ("targetPort", "port", "protocol"))
"""Ports are keyed in containers and Services; in NetworkPolicies they are part of one value."""
_ATOMIC = frozenset({"labelSelector", "matchLabels", "nodeSelector", "podSelector", "selector"})
"""Maps that are one value (`mapType: atomic`): one label more, and a Service selects nothing."""
_LEFT_OUT = frozenset({"paused"})
"""Fields that the server leaves out when they are false."""
_QUANTITIES = frozenset({"limits", "requests"})
_SUFFIXES = {suffix: Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)} | {
    "": Decimal(1),
    **{sign: Decimal(10) ** (3 * n) for n, sign in enumerate("kMGTPE", 1)},
    **{f"{sign}i": Decimal(1024) ** n for n, sign in enumerate("KMGTPE", 1)},
}


def holds(wanted: Any, found: Any, field: str = "") -> bool:
    """Whether `found` has every leaf of `wanted`; `field` is the name of the field that both stand in."""
    if isinstance(wanted, dict) and field in _ATOMIC:
        return bool(bare(wanted) == bare(found))
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            _same_quantity(value, found.get(key))
            if field in _QUANTITIES or key == "sizeLimit"
            else holds(value, found.get(key), key)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return False
        keys = _keys(field, wanted)
        return _each_held(wanted, found, keys) if keys else bare(wanted) == bare(found)
    if field in _LEFT_OUT and found is None:
        return wanted is False
    return type(wanted) is type(found) and bool(wanted == found)


def bare(value: Any) -> Any:
    """The value without what the server leaves out when it is empty."""
    if isinstance(value, dict):
        return {
            key: bare(each)
            for key, each in value.items()
            if each not in (None, "", []) and not (key == "matchLabels" and each == {})
        }
    return [bare(each) for each in value] if isinstance(value, list) else value


def quantity(value: Any) -> Decimal | None:
    """A quantity of Kubernetes as a number (`1Gi` is 1073741824), or None."""
    text = str(value).strip()
    digits = text.rstrip("numkKMGTPEi")
    try:
        return Decimal(digits) * _SUFFIXES[text[len(digits) :]]
    except (KeyError, InvalidOperation):
        pass
    try:
        return Decimal(text)  # with an exponent: 1E3
    except InvalidOperation:
        return None


def _same_quantity(wanted: Any, found: Any) -> bool:
    number = quantity(wanted)
    return holds(wanted, found) if number is None else number == quantity(found)


def _keys(field: str, wanted: list[Any]) -> tuple[str, ...] | None:
    if field != "ports":
        return _KEYS.get(field)
    return next((keys for keys in _PORT_KEYS if all(keys[0] in each for each in wanted)), None)


def _each_held(wanted: list[Any], found: list[Any], keys: tuple[str, ...]) -> bool:
    there = {tuple(each.get(key) for key in keys): each for each in found}
    return all(holds(each, there.get(tuple(each.get(key) for key in keys))) for each in wanted)
