"""Check the values of flags by the metadata of their fields. The docstring of parsing.py lists the keys."""

import dataclasses
import math
from typing import Any

from .errors import RunError
from .recipes import is_line

KINDS = {"size": {"least": 16, "most": 2**16, "metavar": ("H", "W"), "takes": "a height and a width"}}
LARGEST = 2**53  # largest absolute value of a number


def marks_of(field: dataclasses.Field) -> dict[str, Any]:
    """Return the metadata of a flag, with those that its `kind` stands for."""
    return {**KINDS.get(field.metadata.get("kind"), {}), **field.metadata}


def default_of(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def in_its_case(value: Any, choices: tuple | None) -> Any:
    """Return `value`, or each item of a list, in the spelling of `choices`."""
    if isinstance(value, list):
        return [in_its_case(item, choices) for item in value]
    return next((choice for choice in choices or () if str(choice).lower() == str(value).lower()), value)


def check_value(flag: str, value: Any, marks: dict) -> None:
    """Raise RunError if `value` is not allowed by `marks`, the metadata of the field."""
    if value is None:
        return
    values = parts_of_value(value, marks)
    if isinstance(marks.get("metavar"), tuple) and len(values) != len(marks["metavar"]):
        raise RunError(f"{flag} takes {marks['takes']}, not {' '.join(map(str, values))}")
    for item in values:
        if isinstance(item, str) and not item.strip():  # most often a shell's variable that is not set
            raise RunError(f"{flag} is empty: leave it out, or give it a value")
        if isinstance(item, str) and not is_line(item):
            raise RunError(f"{flag} {item!r:.80} holds a line break or a control character")
        if isinstance(item, float) and not math.isfinite(item):
            raise RunError(f"{flag} {item} is not a finite number")
        if "choices" in marks and item not in marks["choices"]:
            known = ", ".join(map(str, marks["choices"]))
            instead = f"; {marks['instead']}" if "instead" in marks else ""
            raise RunError(f"{flag} {item!s:.80} is not known: choose one of {known}{instead}")
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            check_range(flag, item, marks)


def parts_of_value(value: Any, marks: dict) -> list:
    """Return the items of a list, the parts of a value that combines several choices, or the value alone."""
    if value is not None and "parts" in marks:
        return list(marks["parts"](value))
    return value if isinstance(value, list) else [value]


def meets(value: Any, allowed: tuple, marks: dict) -> bool:
    """Whether the value of a flag, or a part of it, is one of those that another flag needs."""
    return value in allowed or ("parts" in marks and not set(parts_of_value(value, marks)).isdisjoint(allowed))


def check_range(flag: str, number: float, marks: dict) -> None:
    """Raise RunError if `number` is outside the bounds in `marks`: least, most, above, below."""
    least, most = marks.get("least", -math.inf), marks.get("most", math.inf)
    above, below = marks.get("above", -math.inf), marks.get("below", math.inf)
    if abs(number) > LARGEST:
        raise RunError(f"{flag} {str(number)[:40]} is out of range: it is too large")
    if least <= number <= most and above < number < below:
        return
    allowed = []
    if "least" in marks:
        allowed.append(f"{least} to {most}" if "most" in marks else f"{least} or more")
    elif "most" in marks:
        allowed.append(f"at most {most}")
    if "above" in marks:
        allowed.append(f"above {above}")
    if "below" in marks:
        allowed.append(f"below {below}")
    raise RunError(f"{flag} {str(number)[:40]} is out of range: {', '.join(allowed)}")


def check_needs(name: str, values: dict, flags: dict[str, dataclasses.Field]) -> None:
    """Raise RunError if the flag `name`, which was given, would have no effect."""
    marks = flags[name].metadata
    flag = f"--no_{name}" if values[name] is False else f"--{name}"
    for other, allowed in marks.get("needs", {}).items():
        if not meets(values[other], allowed, flags[other].metadata):
            raise RunError(f"{flag} {unmet_need(other, values[other], allowed)}")
    others = marks.get("needs_one_of", ())
    if others and not any(values[other] for other in others):
        raise RunError(f"{flag} needs {' or '.join(f'--{other}' for other in others)}")


def lacks_need(name: str, known: dict, flags: dict[str, dataclasses.Field]) -> bool:
    """Whether the flag `name` has no effect beside the flags whose values are `known`, whatever the others are."""
    marks = flags[name].metadata
    needs = marks.get("needs", {}).items()
    others = marks.get("needs_one_of", ())
    unmet = any(other in known and not meets(known[other], allowed, flags[other].metadata) for other, allowed in needs)
    return unmet or (bool(others) and all(other in known and not known[other] for other in others))


def needs_another(marks: dict) -> bool:
    """Whether a flag has no effect by itself. args.yaml holds null for its default."""
    return "needs" in marks or "needs_one_of" in marks


def check_excludes(name: str, given: set[str], marks: dict) -> None:
    """Raise RunError if the flag `name` was given together with one that it excludes."""
    for other, reason in marks.get("excludes", {}).items():
        if other in given:
            raise RunError(f"--{name} and --{other} exclude each other: {reason}")


def unmet_need(other: str, value: Any, allowed: tuple) -> str:
    """Return what to say of a flag that needs one of `allowed` values of the flag `other`, which has `value`."""
    if allowed == (False,):
        return f"and --{other} exclude each other"
    if allowed == (True,):
        return f"needs --{other}"
    wanted = " or ".join(map(str, allowed))
    return f"needs --{other} {wanted}" + (f", not {value!s:.80}" if value is not None else "")
