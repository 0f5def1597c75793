"""Parse a command line, optionally with a recipe as its first argument, into dataclasses of options.

A script passes a dataclass whose fields are the options of each package, in the order of `--help`. The metadata of a
field describe its flag. argparse gets `help`, `aliases`, `metavar`, `nargs` and `const`. A `metavar` that is a tuple
names each of a fixed number of values. This module and flag_checks.py read the others:

    kind          one of `flag_checks.KINDS`, which stands for the metadata of flags of this kind
    choices       allowed values, compared without case
    instead       what to do about a value that is not among them
    parts         function that returns the choices that a value is made of, for a flag whose value may combine several
    least, most   inclusive bounds of a number, or of each number in a list
    above, below  exclusive bounds
    takes         what the values of a tuple `metavar` are, for error messages
    needs         {other flag: values}: refuse the flag unless the other flag has one of these values, or has it as one
                  of its parts, because it would have no effect
    needs_one_of  refuse the flag unless one of these flags is given
    excludes      {other flag: reason}: refuse the flag together with the other. If a recipe has one of them and the
                  user gives the other, the user's counts
    negated       help of `--no_FLAG`
    may_change    True if a resumed run may change the flag
    overridden_by another flag, with which this one has no effect: a resumed run with it may not change this one. If a
                  recipe has the other and the user gives this one, the user's counts
    no_score      True if the flag changes no score, so that runs that differ in it can be compared
    of_launch     True if the flag belongs to one launch, not to the run: args.yaml does not keep it
    added         date, or date and time, on which the flag was added ("2026-11-25 22:04"). args.yaml of an older run
                  may lack the flag: the run behaved as its default does
    null_in_older True if args.yaml of an older run may hold null for the default
"""

import argparse
import dataclasses
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from transformers.hf_argparser import HfArgumentParser

from .checkpoints import run_of
from .errors import RunError, fail
from .files import write_atomically, writing
from .flag_checks import (
    check_excludes,
    check_needs,
    check_value,
    default_of,
    in_its_case,
    lacks_need,
    marks_of,
    meets,
    needs_another,
)
from .recipes import read_recipe

FOR_ARGPARSE = ("help", "aliases", "metavar", "nargs", "const")
NUMBERS = {int: "whole numbers", float: "numbers"}
Arguments = TypeVar("Arguments")


def parse_arguments(kind: type[Arguments], argv: list[str] | None = None, **named: str) -> Arguments:
    """Return an instance of the dataclass `kind`, parsed from `argv` (default: the program's command line).

    A first argument that ends in .yaml is a recipe. Its entries become flags in front of the user's own, so the user's
    flags win, and the same checks apply to both. A resumed run puts the flags of its args.yaml in front of all others.
    `named` may hold the `prog` and the `usage` of argparse.

    Raises RunError for invalid values. Ends the program with exit code 2 for unknown flags.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0].endswith((".yaml", ".yml")):
        argv = [*recipe_tokens(kind, Path(argv[0]), argv[1:]), *argv[1:]]
    arguments = _parse(kind, argv, **named)
    if resumed := flat(arguments).get("resume_from_checkpoint"):
        path = run_of(resumed) / "args.yaml"
        refuse_missing(kind, path)
        arguments = _parse(kind, [*recipe_tokens(kind, path), *argv], **named)
    return arguments


def _parse(kind: type[Arguments], argv: list[str], **named: str) -> Arguments:
    parser = Parser(parts_of(kind), description=kind.__doc__.splitlines()[0], **named)
    try:
        *parts, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
        if unknown:
            parser.error(f"unknown argument {unknown[0]}{remedy_for(unknown[0], argv)}")
        return parts[0] if parts_of(kind) == [kind] else kind(*parts)
    except ValueError as error:  # from a dataclass: options that contradict each other
        raise error if isinstance(error, RunError) else RunError(str(error)) from error


def remedy_for(unknown: str, argv: Sequence[str]) -> str:
    """Return what to do about an argument that is neither a flag nor its value, or ""."""
    if unknown.endswith(".yaml"):
        return ": a recipe must be the first argument"
    if unknown.startswith("-"):
        return ""
    flags = [text.partition("=")[0] for text in argv[: argv.index(unknown)] if text.startswith("--")]
    return f": at most one value may follow {flags[-1]} (put quotes around one with spaces)" if flags else ""


def parts_of(kind: type) -> list[type]:
    """Return the dataclasses of options that make up `kind`, or `[kind]` if its own fields are flags."""
    hints = get_type_hints(kind)
    types = [hints[field.name] for field in dataclasses.fields(kind)]
    return types if all(map(dataclasses.is_dataclass, types)) else [kind]


def flags_of(kind: type) -> dict[str, dataclasses.Field]:
    """Return {name: field} of all flags of `kind`."""
    return {field.name: field for part in parts_of(kind) for field in dataclasses.fields(part)}


def flat(arguments: Any) -> dict[str, Any]:
    """Return {name: value} of all flags."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)}
    if parts_of(type(arguments)) == [type(arguments)]:
        return values
    return {name: value for part in values.values() for name, value in flat(part).items()}


class HelpFormatter(argparse.HelpFormatter):
    """Show the names of a flag in one line, without the spelling with hyphens (--crop-size), which also works."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=120)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if isinstance(action.metavar, tuple):
            return " ".join(action.metavar)
        return super()._format_args(action, default_metavar)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(name for name in action.option_strings if "-" not in name[2:])
        is_switch = action.nargs == 0 or action.const is True
        return names if is_switch else f"{names} {self._format_args(action, action.dest.upper())}"


class Parser(HfArgumentParser):
    """HfArgumentParser with titled groups in `--help`, checks by field metadata, and one-line errors.

    An error prints no usage, and appears once under any launcher. Values are checked before the dataclasses are built.
    """

    def __init__(self, kinds: list[type] | None = None, **options: Any):
        if kinds is not None and "usage" not in options:
            options["usage"] = "%(prog)s [RECIPE.yaml] [--FLAG VALUE] ..."
            options["epilog"] = "RECIPE.yaml has a line 'flag: value' for each flag. Flags after it override it."
        super().__init__(kinds, allow_abbrev=False, formatter_class=HelpFormatter, **options)
        self.flags = {field.name: field for kind in self.dataclass_types for field in dataclasses.fields(kind)}

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
        plain = copy(field)
        marks = marks_of(field)
        plain.metadata = {key: value for key, value in marks.items() if key in FOR_ARGPARSE}
        plain.metadata["help"] = description(field).replace("%", "%%")
        if field.type is not bool:
            plain.metadata["metavar"] = metavar(field)
        HfArgumentParser._parse_dataclass_field(parser, plain)
        actions = parser._option_string_actions
        for action in (actions[f"--{field.name}"], actions.get(f"--no_{field.name}")):
            if action is not None:
                action.default = SUPPRESS  # so that the namespace holds only the flags that were given
        if "negated" in marks:
            actions[f"--no_{field.name}"].help = marks["negated"]

    def error(self, message: str) -> None:
        fail(f"error: {' '.join(message.split())[:300]} (see {self.prog} --help)", 2)

    def given(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return the values of the flags in `argv`, unchecked, without the defaults of the others."""
        return vars(super().parse_known_args(list(argv))[0])

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        namespace, unknown = super().parse_known_args(args, namespace)
        given = set(vars(namespace))
        for name, field in self.flags.items():
            value = getattr(namespace, name) if name in given else default_of(field)
            setattr(namespace, name, in_its_case(value, field.metadata.get("choices")))
        values = vars(namespace)
        for name, field in self.flags.items():
            check_value(f"--{name}", values[name], marks_of(field))
        for name in self.flags:
            off = values[name] is None or (values[name] is False and default_of(self.flags[name]) is False)
            if name in given and not off:
                check_needs(name, values, self.flags)
                check_excludes(name, given, self.flags[name].metadata)
        return namespace, unknown


def metavar(field: dataclasses.Field) -> str | tuple[str, ...]:
    """Return the placeholder of a flag's value in `--help`: its choices, N (integer), X (float), or a word."""
    marks = marks_of(field)
    if "metavar" in marks:
        return marks["metavar"]
    if "choices" in marks:
        return "|".join(map(str, marks["choices"]))
    kinds = {field.type, *get_args(field.type)}
    if int in kinds:
        return "N"
    return "X" if float in kinds else field.name.split("_")[-1].upper()


def description(field: dataclasses.Field) -> str:
    """Return the `--help` text of a flag, with its default if it has one."""
    value = default_of(field)
    text = field.metadata["help"]
    if value is None or value is False or value is dataclasses.MISSING:
        return text
    return f"{text} (default)" if value is True else f"{text} (default: {as_given(value)})"


def as_given(value: Any) -> str:
    """A value as it stands on a command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def read_options(kind: type[Arguments], path: Path) -> Arguments:
    """Return the options of `kind` from the args.yaml of a run, which holds other flags too.

    Raises RunError that names the file if a value is not valid.
    """
    tokens = known_tokens(kind, path)
    try:
        return _parse(kind, tokens)
    except RunError as error:
        raise RunError(f"cannot use {path}: {error}") from error


def known_tokens(kind: type, path: Path) -> list[str]:
    """Return the command line that a YAML file stands for, without the flags that `kind` lacks."""
    flags = flags_of(kind)
    known = set().union(*(names_of(name, field) for name, field in flags.items()))
    return entry_tokens(flags, {key: value for key, value in read_recipe(path).items() if key in known}, path)


def recipe_tokens(kind: type, path: Path, own: Sequence[str] = ()) -> list[str]:
    """Return the command line that a YAML file stands for, without the entries that the user's `own` flags replace."""
    flags = flags_of(kind)
    entries = read_recipe(path)
    given = Parser(parts_of(kind)).given(own) if own else {}
    left_out = set().union(*(names_of(name, flags[name]) for name in replaced(flags, given)))
    return entry_tokens(flags, {key: value for key, value in entries.items() if key not in left_out}, path)


def replaced(flags: dict[str, dataclasses.Field], given: dict[str, Any]) -> set[str]:
    """Return the flags that a recipe must not set if the user gave the flags `given`.

    These are flags that exclude or override one of them, and flags that only detail what they switch off.
    """
    found = set()
    for name, field in flags.items():
        marks = field.metadata
        for other in marks.get("excludes", ()):
            found |= {other} if name in given else set()
            found |= {name} if other in given else set()
        if name in given and "overridden_by" in marks:
            found |= {marks["overridden_by"]} - given.keys()
    known = {name: in_its_case(value, flags[name].metadata.get("choices")) for name, value in given.items()}
    known |= {name: default_of(flags[name]) for name in found}
    while moot := {name for name in flags.keys() - known.keys() if lacks_need(name, known, flags)}:
        found |= moot
        known |= {name: default_of(flags[name]) for name in moot}
    return found


def entry_tokens(flags: dict[str, dataclasses.Field], entries: dict, path: Path) -> list[str]:
    """Return the command line that the `entries` of the YAML file `path` stand for."""
    names = {known: name for name, field in flags.items() for known in names_of(name, field)}
    tokens = []
    seen = {}
    for key, value in entries.items():
        if key not in names:
            raise RunError(f"recipe {path}: there is no flag --{key}")
        name = names[key]
        if name in seen:
            raise RunError(f"recipe {path}: {seen[name]} and {key} are the same flag")
        seen[name] = key
        if value is not None:
            tokens += tokens_of(path, key, value, flags[name])
    return tokens


def tokens_of(path: Path, key: str, value: Any, field: dataclasses.Field) -> list[str]:
    """Return the command-line tokens of one recipe entry, in a form that argparse cannot mistake for another flag."""
    takes = {field.type, *get_args(field.type)}
    texts = bool(takes & {str, list[str]})
    several = any(get_origin(kind) is list for kind in takes)
    values = value if isinstance(value, list) else [value]
    number = next((kind for kind in (int, float) if takes & {kind, list[kind]}), None)
    if texts and any(isinstance(item, bool) or (isinstance(item, float) and not number) for item in values):
        raise RunError(f"recipe {path}: {key} is {value}: put quotes around text")  # 1.10 would become 1.1
    if isinstance(value, list) and not several:
        raise RunError(f"recipe {path}: {key} takes one value, not a list")
    if number and not all(is_written_as(number, item) for item in values):
        raise RunError(f"recipe {path}: {key} is {value!r:.80}, but takes {NUMBERS[number]}")
    if not several:
        return [f"--{key}={value}"]
    if not values or any(texts and str(item).startswith("-") for item in values):
        raise RunError(f"recipe {path}: {key} is {value!r:.80}: give one or more values that begin with no dash")
    return [f"--{key}", *map(str, values)]


def is_written_as(number: type, item: Any) -> bool:
    """Return whether argparse can read `item` as an int or a float."""
    try:
        number(str(item))
    except ValueError:
        return False
    return True


def refuse_missing(kind: type, path: Path) -> None:
    """Raise RunError if the args.yaml of a resumed run lacks a flag that affects its results, or holds null for it.

    The default may have changed since the run began. A file may lack only flags that were added after the newest flag
    that it has: they did not exist when it was written.
    """
    entries = read_recipe(path)
    flags = flags_of(kind)
    written = max((added(field) for name, field in flags.items() if entries.keys() & names_of(name, field)), default="")
    for name, field in flags.items():
        marks = field.metadata
        if marks.get("may_change") or marks.get("of_launch") or added(field) > written:
            continue
        given = names_of(name, field) & entries.keys()
        if not given:
            raise RunError(f"{path} has no {name}: a resumed run needs every flag that it started with, so add it")
        may_be_null = needs_another(marks) or default_of(field) is None or marks.get("null_in_older")
        if entries[given.pop()] is None and not may_be_null:
            raise RunError(f"{path} has no value for {name}: a resumed run needs the one that it started with")


def added(field: dataclasses.Field) -> str:
    """Return when a flag was added, or "" for one that every args.yaml has. These strings sort by time."""
    return field.metadata.get("added", "")


def names_of(name: str, field: dataclasses.Field) -> set[str]:
    """Return the names under which a recipe may hold a flag: its own and its aliases."""
    return {name, *(alias.removeprefix("--") for alias in field.metadata.get("aliases", ()))}


def recipe_of(arguments: Any) -> dict[str, Any]:
    """Return the recipe entries of `arguments`, without the flags of this launch.

    A flag that needs another one becomes None if it has no effect or equals its default; a switch that is off stays
    false. Without this, a user who repeats the run with other flags would be told to remove a flag that nobody gave.
    """
    values = flat(arguments)
    entries = {}
    flags = flags_of(type(arguments))
    for name, field in flags.items():
        if not field.metadata.get("of_launch"):
            needs = field.metadata.get("needs", {})
            has_effect = all(meets(values[other], allowed, flags[other].metadata) for other, allowed in needs.items())
            is_default = needs_another(field.metadata) and values[name] == default_of(field)
            is_moot = is_default or not has_effect
            entries[name] = None if is_moot and values[name] is not False else values[name]
    return entries


def save_arguments(arguments: Any, path: Path) -> None:
    """Write `arguments` as a recipe. A new run with this recipe gives the same numbers."""
    with writing(path):
        write_atomically(path, yaml.safe_dump(recipe_of(arguments), sort_keys=False))


def changed_flags(arguments: Any, path: Path) -> list[str]:
    """Compare the flags of a resumed run with those in its args.yaml, `path`.

    Returns one line for the user per changed flag. Raises RunError if a flag changed that a resumed run must keep.
    """
    kind = type(arguments)
    flags = flags_of(kind)
    now = flat(arguments)
    may_change = [name for name, field in flags.items() if field.metadata.get("may_change")]
    changes = []
    for name, before in flat(_parse(kind, recipe_tokens(kind, path))).items():
        if now[name] == before or flags[name].metadata.get("of_launch"):
            continue
        if name not in may_change:
            raise RunError(
                f"--{name} {now[name]} differs from {before}, the value that the run started with: a resumed run keeps "
                f"its flags, except {', '.join(f'--{name}' for name in may_change)}"
            )
        other = flags[name].metadata.get("overridden_by")
        if other is not None and now[other] is not None:
            raise RunError(
                f"--{name} has no effect, because this run has --{other} {now[other]}: give --{other} instead"
            )
        changes.append(f"--{name} {as_given(now[name])} instead of {as_given(before)}")
    return changes
