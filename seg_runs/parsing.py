"""From a command line to dataclasses of options, with a recipe as its optional first argument.

A script names a dataclass whose fields are the options of each room, in the order of `--help`. What a flag is stands in
the room that uses it, in the metadata of its field. Beside `help`, `aliases`, `metavar`, `nargs` and `const`, which
argparse knows, these are read here:

    choices       the values that it takes, in any case
    least, most   bounds of a number, or of each in a list; `above` is a bound that is not taken itself, `below` too
    length        how many values a list has, and `takes`, what they are
    needs         {other flag: its values}: without one of these the flag would have no effect, and is refused
    needs_one_of  other flags, of which one has to be given
    negated       what `--no_FLAG` does
    may_change    True: a resumed run may change it
    of_launch     True: it belongs to one launch, not to the run, and is not kept in args.yaml
    added         True: args.yaml of older runs lacks it, and its default is what they did
"""

import argparse
import dataclasses
import math
import sys
from argparse import SUPPRESS
from copy import copy
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from transformers.hf_argparser import HfArgumentParser

from .checkpoints import run_of
from .files import write_atomically, writing
from .launch import RunError, fail
from .recipes import read_recipe

FOR_ARGPARSE = ("help", "aliases", "metavar", "nargs", "const")
LARGEST = 2**53  # of any number
OTHER_GROUPS = (
    ": each step sees the same images, but dropout draws otherwise, and batch norm and --copyblob tutorial see other "
    "groups of images"
)
Arguments = TypeVar("Arguments")


def parse_arguments(kind: type[Arguments], argv: list[str] | None = None) -> Arguments:
    """Return an instance of the dataclass `kind` from a command line, by default the program's own.

    A first argument that ends in .yaml is a recipe: its entries become flags placed before the user's own, so the
    user's win and both are checked in one place. A resumed run takes those of its args.yaml first. Raises RunError for
    values that cannot be; ends the program, with exit code 2, for what is no flag.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0].endswith((".yaml", ".yml")):
        argv = [*recipe_tokens(kind, Path(argv[0])), *argv[1:]]
    arguments = _parse(kind, argv)
    if resumed := flat(arguments).get("resume_from_checkpoint"):
        path = run_of(resumed) / "args.yaml"
        refuse_missing(kind, path)
        arguments = _parse(kind, [*recipe_tokens(kind, path), *argv])
    return arguments


def _parse(kind: type[Arguments], argv: list[str]) -> Arguments:
    parser = Parser(parts_of(kind), description=kind.__doc__.splitlines()[0])
    try:
        *parts, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
        if unknown:
            parser.error(f"unknown argument {unknown[0]}")
        return parts[0] if parts_of(kind) == [kind] else kind(*parts)
    except ValueError as error:  # a room's own error, of options that contradict each other
        raise error if isinstance(error, RunError) else RunError(str(error)) from error


def parts_of(kind: type) -> list[type]:
    """The dataclasses of options that the dataclass `kind` is made of: itself if its fields are flags."""
    types = [get_type_hints(kind)[field.name] for field in dataclasses.fields(kind)]
    return types if all(map(dataclasses.is_dataclass, types)) else [kind]


def flags_of(kind: type) -> dict[str, dataclasses.Field]:
    """The fields that are flags of `kind`, by name."""
    return {field.name: field for part in parts_of(kind) for field in dataclasses.fields(part)}


def flat(arguments) -> dict[str, Any]:
    """The values of all flags, by name."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)}
    if parts_of(type(arguments)) == [type(arguments)]:
        return values
    return {name: value for part in values.values() for name, value in flat(part).items()}


class HelpFormatter(argparse.HelpFormatter):
    """One line of names for each flag: argparse's --crop-size for --crop_size works, and is not shown."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=120)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = ", ".join(name for name in action.option_strings if "-" not in name[2:])
        is_switch = action.nargs == 0 or action.const is True
        return names if is_switch else f"{names} {self._format_args(action, action.dest.upper())}"


class Parser(HfArgumentParser):
    """One line per mistake instead of the whole usage, printed once under any launcher; titled groups in `--help`.

    Values are checked by the metadata of their fields before a dataclass is made of them.
    """

    def __init__(self, kinds=None, **options):
        if kinds is not None:
            options |= {"usage": "%(prog)s [RECIPE.yaml] [--FLAG VALUE] ...", "formatter_class": HelpFormatter}
        super().__init__(kinds, allow_abbrev=False, **options)
        self.flags = {field.name: field for kind in self.dataclass_types for field in dataclasses.fields(kind)}

    @staticmethod
    def _parse_dataclass_field(parser, field: dataclasses.Field) -> None:
        plain, marks = copy(field), field.metadata
        plain.metadata = {key: value for key, value in marks.items() if key in FOR_ARGPARSE}
        plain.metadata["help"] = description(field).replace("%", "%%")
        if field.type is not bool:
            plain.metadata.setdefault("metavar", metavar(field))
        HfArgumentParser._parse_dataclass_field(parser, plain)
        actions = parser._option_string_actions
        for action in (actions[f"--{field.name}"], actions.get(f"--no_{field.name}")):
            if action is not None:
                action.default = SUPPRESS  # what was given is told from what was not
        if "negated" in marks:
            actions[f"--no_{field.name}"].help = marks["negated"]

    def error(self, message: str) -> None:
        fail(f"error: {' '.join(message.split())[:300]} (see {self.prog} --help)", 2)

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        given = set(vars(namespace))
        for name, field in self.flags.items():
            value = getattr(namespace, name) if name in given else default_of(field)
            setattr(namespace, name, in_its_case(value, field.metadata.get("choices")))
        values = vars(namespace)
        for name, field in self.flags.items():
            check_value(f"--{name}", values[name], field.metadata)
        for name, field in self.flags.items():
            if name in given and values[name] is not None and values[name] is not False:
                check_needs(name, values, field.metadata)
        return namespace, unknown


def metavar(field: dataclasses.Field) -> str:
    """What stands for the value of a flag in `--help`: its choices, N for a count, X for a number, or a word."""
    if choices := field.metadata.get("choices"):
        return "|".join(map(str, choices))
    kinds = {field.type, *get_args(field.type)}
    return "N" if int in kinds else "X" if float in kinds else field.name.split("_")[-1].upper()


def description(field: dataclasses.Field) -> str:
    """What `--help` says of a flag: its help, and its default if it has one."""
    value, text = default_of(field), field.metadata["help"]
    if value is None or value is False:
        return text
    return f"{text} (default: {as_given(value)})"


def as_given(value) -> str:
    """A value as it stands on a command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def default_of(field: dataclasses.Field):
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def in_its_case(value, choices: tuple | None):
    """`value`, or each in a list, as it is written in `choices`."""
    if isinstance(value, list):
        return [in_its_case(item, choices) for item in value]
    return next((choice for choice in choices or () if str(choice).lower() == str(value).lower()), value)


def check_value(flag: str, value, marks: dict) -> None:
    """Raise RunError for a value that its flag does not take. `marks`: the metadata of its field."""
    values = value if isinstance(value, list) else [value]
    if value is None:
        return
    if "length" in marks and len(values) != marks["length"]:
        raise RunError(f"{flag} takes {marks['takes']}, not {' '.join(map(str, values))}")
    for item in values:
        if isinstance(item, float) and not math.isfinite(item):
            raise RunError(f"{flag} {item} is not a finite number")
        if "choices" in marks and item not in marks["choices"]:
            raise RunError(f"{flag} {item} is not known: choose one of {', '.join(map(str, marks['choices']))}")
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            check_range(flag, item, marks)


def check_range(flag: str, number: float, marks: dict) -> None:
    least, most = marks.get("least", -math.inf), marks.get("most", math.inf)
    above, below = marks.get("above", -math.inf), marks.get("below", math.inf)
    if abs(number) > LARGEST:
        raise RunError(f"{flag} {str(number)[:40]} is out of range: it is absurdly large")
    if least <= number <= most and above < number < below:
        return
    allowed = []
    if "least" in marks:
        allowed.append(f"{least} to {most}" if "most" in marks else f"{least} or more")
    if "above" in marks:
        allowed.append(f"above {above}")
    if "below" in marks:
        allowed.append(f"below {below}")
    raise RunError(f"{flag} {str(number)[:40]} is out of range: {', '.join(allowed)}")


def check_needs(name: str, values: dict, marks: dict) -> None:
    """Raise RunError for a flag that was given and would have no effect."""
    for other, allowed in marks.get("needs", {}).items():
        if values[other] not in allowed:
            raise RunError(f"--{name} {without(other, values[other], allowed)}")
    others = marks.get("needs_one_of", ())
    if others and not any(values[other] for other in others):
        raise RunError(f"--{name} needs {' or '.join(f'--{other}' for other in others)}")


def without(other: str, value, allowed: tuple) -> str:
    """The second half of the sentence of `check_needs`."""
    if allowed == (False,):
        return f"and --{other} exclude each other"
    if allowed == (True,):
        return f"needs --{other}"
    wanted = " or ".join(map(str, allowed))
    return f"needs --{other} {wanted}" + (f", and this is {value}" if value is not None else "")


def recipe_tokens(kind: type, path: Path) -> list[str]:
    """The command line that a YAML file stands for."""
    flags = flags_of(kind)
    names = {name: name for name in flags}
    names |= {alias.removeprefix("--"): name for name in flags for alias in flags[name].metadata.get("aliases", ())}
    tokens, seen = [], {}
    for key, value in read_recipe(path).items():
        if key not in names:
            raise RunError(f"recipe {path}: there is no flag --{key}")
        name = names[key]
        if name in seen:
            raise RunError(f"recipe {path}: {seen[name]} and {key} are the same flag")
        seen[name] = key
        if value is not None:
            tokens += tokens_of(path, key, value, flags[name])
    return tokens


def tokens_of(path: Path, key: str, value, field: dataclasses.Field) -> list[str]:
    """The tokens of one entry of a recipe, so that no value can be taken for a flag."""
    takes = {field.type, *get_args(field.type)}
    texts, several = bool(takes & {str, list[str]}), any(get_origin(kind) is list for kind in takes)
    values = value if isinstance(value, list) else [value]
    if texts and any(isinstance(item, bool) for item in values):
        raise RunError(f"recipe {path}: {key} is {value}: put a text into quotes")
    if not several:
        if isinstance(value, list):
            raise RunError(f"recipe {path}: {key} takes one value, not a list")
        return [f"--{key}={value}"]
    if not values or any(texts and str(item).startswith("-") for item in values):
        raise RunError(f"recipe {path}: {key} is {value!r:.80}")
    return [f"--{key}", *map(str, values)]


def refuse_missing(kind: type, path: Path) -> None:
    """Refuse to go on with a run whose args.yaml lacks a flag that decides its numbers: its default may be another."""
    entries = read_recipe(path)
    for name, field in flags_of(kind).items():
        marks = field.metadata
        decides = not any(marks.get(mark) for mark in ("may_change", "of_launch", "added"))
        if decides and not {name, *(alias.removeprefix("--") for alias in marks.get("aliases", ()))} & entries.keys():
            raise RunError(f"{path} has no {name}: a resumed run needs every flag that it was begun with, so add it")


def recipe_of(arguments) -> dict[str, Any]:
    """The entries of a recipe for `arguments`, without those of this launch.

    A flag that others have to allow is None where it has no effect, or its default: whoever repeats the run with
    other flags is not told that this one, which nobody gave, does not fit them.
    """
    values, entries = flat(arguments), {}
    for name, field in flags_of(type(arguments)).items():
        if not field.metadata.get("of_launch"):
            needs = field.metadata.get("needs", {})
            has_effect = all(values[other] in allowed for other, allowed in needs.items())
            is_default = bool(needs) and values[name] == default_of(field)
            is_moot = is_default or not has_effect
            entries[name] = None if is_moot and values[name] is not False else values[name]
    return entries


def save_arguments(arguments, path: Path) -> None:
    """Write `arguments` as a recipe: run again with it, the same numbers come out, in a new folder."""
    with writing(path):
        write_atomically(path, yaml.safe_dump(recipe_of(arguments), sort_keys=False))


def changed_flags(arguments, path: Path) -> list[str]:
    """What differs from the flags that the run of `path`, its args.yaml, was begun with, in lines for the user; flags
    that would make it another run are refused."""
    kind = type(arguments)
    flags, now = flags_of(kind), flat(arguments)
    may_change = [name for name, field in flags.items() if field.metadata.get("may_change")]
    changes = []
    for name, before in flat(_parse(kind, recipe_tokens(kind, path))).items():
        if now[name] == before or flags[name].metadata.get("of_launch"):
            continue
        if name not in may_change:
            raise RunError(
                f"--{name} {now[name]} is not what the run was begun with ({before}): a resumed run keeps its flags, "
                f"except {', '.join(f'--{name}' for name in may_change)}"
            )
        effect = OTHER_GROUPS if name == "gradient_accumulation_steps" else ""
        changes.append(f"--{name} {as_given(now[name])} instead of {as_given(before)}{effect}")
    return changes
