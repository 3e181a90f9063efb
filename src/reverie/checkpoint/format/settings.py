"""The settings of a table, and nests of specs, as values of the manifest."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import Any

from reverie.checkpoint.disk import strict_json as sj
from reverie.errors import CheckpointCorruptError, InvalidArgumentError, ReverieError
from reverie.nests.codec import decode_nest, encode_nest, make_array_spec
from reverie.nests.nest import Nest
from reverie.tables.limiters import Limiter
from reverie.tables.roles import Roles
from reverie.tables.selectors import ItemSelector, PrioritizedSelector, selector_of
from reverie.tables.settings import TableSettings

MAX_NAME_LENGTH = 1000
SAFE_INT = (1 << 53) - 1  # JSON numbers above are not safe in every reader

ROLES = "roles"
"""The part of a manifest that says what the keys of steps are: `Roles` by table."""
PRIORITIES = "priorities"
"""The part that holds what selectors say of new priorities."""

KEYS = (
    *("name", "max_size", "sampler", "remover", "min_size_to_sample", "samples_per_insert"),
    *("min_diff", "max_diff", "max_times_sampled", "sequence_length", "signature"),
)


def settings_json(settings: TableSettings) -> dict[str, object]:
    """A table's settings as the manifest has them.

    Raises:
        InvalidArgumentError: no JSON can express its signature.
    """
    limiter = settings.limiter
    return {
        "name": settings.name,
        "max_size": min(settings.max_size, SAFE_INT),
        "sampler": _selector_text(settings.sampler),
        "remover": _selector_text(settings.remover),
        "min_size_to_sample": limiter.min_size_to_sample,
        "samples_per_insert": _float_json(limiter.samples_per_insert),
        "min_diff": _float_json(limiter.min_diff),
        "max_diff": _float_json(limiter.max_diff),
        "max_times_sampled": max(0, settings.max_times_sampled),
        "sequence_length": settings.sequence_length,
        "signature": encode_nest(settings.signature),
    }


def check_settings(settings: TableSettings) -> None:
    """Refuses settings that a manifest could not give back.

    Raises:
        InvalidArgumentError: a name too long or without an encoding, a number above
            2**53 - 1, or a signature that JSON cannot express.
    """
    try:
        raw = json.dumps(settings_json(settings), allow_nan=False).encode()
        value = sj.parse(raw)
        decode_settings(value, f"table {settings.name!r:.100}")
        decode_nest(value["signature"], "signature", lambda *_: None)  # type: ignore[index]
    except (ReverieError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArgumentError(
            f"Table {settings.name!r:.200} could be filled, but cannot be saved: {error!s:.500}"
        ) from error


def decode_settings(value: object, path: str) -> TableSettings:
    """The settings in a manifest, but for their signature, see `codec.decode_signature`.

    Raises:
        MalformedError: a value is of another type, or out of range.
    """
    s = sj.take_object(value, path, KEYS)
    try:
        return TableSettings(
            name=sj.take_str(s["name"], f"{path}.name", limit=MAX_NAME_LENGTH),
            max_size=_take_number(s, "max_size", path),
            sampler=_selector(s["sampler"], f"{path}.sampler"),
            remover=_selector(s["remover"], f"{path}.remover"),
            limiter=Limiter(
                samples_per_insert=sj.take_float(
                    s["samples_per_insert"], f"{path}.samples_per_insert"
                ),
                min_size_to_sample=_take_number(s, "min_size_to_sample", path),
                min_diff=sj.take_float(s["min_diff"], f"{path}.min_diff"),
                max_diff=sj.take_float(s["max_diff"], f"{path}.max_diff"),
            ),
            max_times_sampled=_take_number(s, "max_times_sampled", path, low=0),
            sequence_length=None
            if s["sequence_length"] is None
            else _take_number(s, "sequence_length", path),
        )
    except InvalidArgumentError as error:
        raise sj.MalformedError(path, str(error), "settings by which a table works") from error


def decode_roles(value: object, where: str) -> dict[str, Roles]:
    """The roles in a manifest, by table.

    Raises:
        CheckpointCorruptError: they are malformed.
    """
    if not isinstance(value, dict):
        raise CheckpointCorruptError(f"{where}: part {ROLES!r} is no object by table.")
    try:
        return {name: Roles.from_json(roles) for name, roles in value.items()}
    except ValueError as error:
        raise CheckpointCorruptError(f"{where}: part {ROLES!r}: {error!s:.500}.") from None


def priorities_json(tables: Iterable[TableSettings]) -> dict[str, dict[str, object]]:
    """What selectors say of new priorities, by table and role, where they say anything."""
    found: dict[str, dict[str, object]] = {}
    for table in tables:
        for role, selector in (("sampler", table.sampler), ("remover", table.remover)):
            if selector.initial is not None or selector.eps:
                said = {"initial": selector.initial, "eps": selector.eps}
                found.setdefault(table.name, {})[role] = said
    return found


def with_priorities(settings: TableSettings, value: object, path: str) -> TableSettings:
    """The settings of a table, and what `priorities_json` has of it.

    Raises:
        MalformedError: it is not of that form, or of a selector that is not prioritized.
    """
    if not isinstance(value, dict) or not value or not value.keys() <= {"sampler", "remover"}:
        raise sj.MalformedError(path, value, "an object of sampler, remover, or both")
    for role, inner in value.items():
        selector = _with_priorities(getattr(settings, role), inner, f"{path}.{role}")
        changed: dict[str, Any] = {role: selector}
        settings = dataclasses.replace(settings, **changed)
    return settings


def _with_priorities(selector: ItemSelector, value: object, path: str) -> ItemSelector:
    said = sj.take_object(value, path, ("initial", "eps"))
    initial, eps = said["initial"], sj.take_float(said["eps"], f"{path}.eps")
    number = None
    if initial is not None and initial != "max":
        number = sj.take_float(initial, f"{path}.initial")
    if selector.exponent is None:
        raise sj.MalformedError(path, selector, "a prioritized selector")
    try:
        return PrioritizedSelector(
            selector.exponent, initial="max" if initial == "max" else number, eps=eps
        )
    except InvalidArgumentError as error:
        raise sj.MalformedError(path, str(error), "what a selector takes") from error


def nest_json(nest: Nest) -> object:
    """The spec of a step as the manifest has it; None where it cannot express the nest.

    That is so of a nest with nodes that only optree knows, or deeper than the codec
    goes: such a checkpoint can be loaded, but not opened without the spec.
    """
    try:
        value = sj.parse(json.dumps(encode_nest(nest.spec), allow_nan=False).encode())
        sound = decode_step(value, "nest").columns == nest.columns
    except (ReverieError, ValueError, TypeError, RecursionError):
        return None
    return value if sound else None


def decode_step(value: object, where: str) -> Nest:
    """The nest of a step in a manifest.

    Raises:
        CheckpointCorruptError: it is malformed.
        CheckpointMismatchError: a dtype needs a package that is not loaded.
        SpecError: it holds nothing, or too much.
    """
    return Nest(decode_nest(value, where, make_array_spec))


def _take_number(settings: dict[str, object], name: str, path: str, low: int = 1) -> int:
    return sj.take_int(settings[name], f"{path}.{name}", low, SAFE_INT)


def _float_json(value: float) -> float | str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(value)


def _selector_text(selector: ItemSelector) -> str:
    if selector.kind != "prioritized":
        return selector.kind
    return f"prioritized:{float(selector.exponent or 0.0)!r}"


def _selector(value: object, path: str) -> ItemSelector:
    text = sj.take_str(value, path, limit=100)
    kind, colon, number = text.partition(":")
    try:
        if bool(colon) != (kind == "prioritized"):
            raise ValueError("an exponent where none is due, or the reverse")
        return selector_of(kind, float(number) if colon else None)  # type: ignore[arg-type]
    except ValueError as error:
        raise sj.MalformedError(
            path,
            text,
            "fifo, lifo, uniform, min_heap, max_heap, or prioritized: and a finite exponent",
        ) from error
