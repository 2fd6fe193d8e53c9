"""Frozen dataclasses in and out of JSON: every key known, every type exact, every number finite, or one sentence.

`bool` is not a number here although Python says so; an `int` may stand for a `float`. A field's metadata may hold
`low`, `high` (both inclusive), `above` (exclusive) or `choices`. Fields without a default are required. Supported
types: bool, int, float, str, enums of str, other dataclasses, `X | None`, `tuple[X, ...]`, `dict[str, X]`.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from engine.errors import Code, EngineError

T = TypeVar("T")


def parse(text: str, *, what: str, code: Code) -> dict[str, Any]:
    """`text` as a JSON object; `EngineError(code)` for broken JSON, a repeated key, NaN, or what is no object."""
    try:
        value = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constants)
    except (ValueError, RecursionError) as error:
        raise EngineError(code, f"{what} is not valid JSON") from error
    if not isinstance(value, dict):
        raise EngineError(code, f"{what} must be a JSON object")
    return value


def decode(cls: type[T], value: Mapping[str, Any], *, what: str, code: Code) -> T:
    """An instance of the dataclass `cls` from a JSON object; `EngineError(code)` with a sentence that names the key."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(value) - set(fields))
    if unknown:
        known = ", ".join(sorted(fields)) or "none"
        raise EngineError(code, f"{what} has the unknown key {unknown[0]!r}; known keys are: {known}")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _read(hints[name], value[name], what=f"{what}.{name}", code=code)
            _check_range(field.metadata, arguments[name], what=f"{what}.{name}", code=code)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise EngineError(code, f"{what} needs the key {name!r}")
    return cls(**arguments)


def encode(value: Any) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """The JSON value of a dataclass, mapping, sequence or scalar; refuses numbers that JSON does not have."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise EngineError("not_finite", "a result is not a finite number, so nothing was reported")
    return value


def canonical(value: Any) -> str:  # noqa: ANN401 - JSON has no narrower type
    """One text for one value: sorted keys, no spaces. For digests inside the engine, not for signatures."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _read(hint: Any, value: Any, *, what: str, code: Code) -> Any:  # noqa: ANN401 - driven by annotations
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _read(arguments[0], value, what=what, code=code)
    if origin is tuple:
        items = _expect(list, value, "a list", what=what, code=code)
        return tuple(_read(arguments[0], item, what=f"{what}[{i}]", code=code) for i, item in enumerate(items))
    if origin is dict:
        pairs = _expect(dict, value, "a JSON object", what=what, code=code)
        return {key: _read(arguments[1], item, what=f"{what}.{key}", code=code) for key, item in pairs.items()}
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return decode(
            typing.cast("type[Any]", hint),
            _expect(dict, value, "a JSON object", what=what, code=code),
            what=what,
            code=code,
        )
    return _scalar(hint, value, what=what, code=code)


def _scalar(hint: Any, value: Any, *, what: str, code: Code) -> Any:  # noqa: ANN401 - driven by annotations
    if hint is bool:
        return _expect(bool, value, "true or false", what=what, code=code)
    if hint is int and not isinstance(value, bool):
        return _expect(int, value, "a whole number", what=what, code=code)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if hint is str:
        return _expect(str, value, "a text", what=what, code=code)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value in list(hint):
            return hint(value)
        raise EngineError(code, f"{what} must be one of: {', '.join(hint)}")
    raise EngineError(code, f"{what} must be a {'whole' if hint is int else 'finite'} number")


def _expect(kind: type, value: Any, name: str, *, what: str, code: Code) -> Any:  # noqa: ANN401 - any JSON
    if not isinstance(value, kind):
        raise EngineError(code, f"{what} must be {name}")
    return value


def _check_range(limits: Mapping[str, Any], value: Any, *, what: str, code: Code) -> None:  # noqa: ANN401 - any JSON
    if value is None or not limits:
        return
    if "choices" in limits and value not in limits["choices"]:
        raise EngineError(code, f"{what} must be one of: {', '.join(map(str, limits['choices']))}")
    if "low" in limits and value < limits["low"]:
        raise EngineError(code, f"{what} must be at least {limits['low']}")
    if "above" in limits and value <= limits["above"]:
        raise EngineError(code, f"{what} must be above {limits['above']}")
    if "high" in limits and value > limits["high"]:
        raise EngineError(code, f"{what} must be at most {limits['high']}")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        message = "a key is repeated"
        raise ValueError(message)
    return value


def _no_constants(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)
