"""Read flags from YAML: recipes, and the args.yaml that a run writes.

A file consists of `flag: value` lines. A value is a number, a string, true, false, or a list of these. null stands for
the default. The reader refuses everything else in YAML with a one-line error: nested mappings, aliases, repeated keys.
"""

import re
from pathlib import Path
from typing import Any
from unicodedata import category

import yaml

from .errors import RunError, os_reason

LARGEST_FILE = 100_000  # bytes; a recipe with every flag has 2,000
LARGEST_NUMBER = 10**100
SCALARS = (str, int, float, bool)


class RecipeLoader(yaml.SafeLoader):
    """Refuse repeated keys, and aliases, with which a small file can fill all memory. PyYAML accepts both."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"write out what *{event.anchor} stands for", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen or key.tag == "tag:yaml.org,2002:merge":
                what = "is there twice" if key.value in seen else "is not allowed in a recipe"
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} {what}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def decimal(loader: RecipeLoader, node: yaml.ScalarNode) -> int | float:
    """Return a number. Raises for what YAML 1.1 reads as another: 010 as 8, 12:30 as 750, 2024_01 as 202401."""
    if ":" in node.value or "_" in node.value or re.match(r"[-+]?0[0-9a-z]", node.value):
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value:.40} is no decimal number: put quotes around text", node.start_mark
        )
    kind = node.tag.rpartition(":")[2]
    return {"int": loader.construct_yaml_int, "float": loader.construct_yaml_float}[kind](node)


RecipeLoader.add_constructor("tag:yaml.org,2002:int", decimal)
RecipeLoader.add_constructor("tag:yaml.org,2002:float", decimal)


def read_recipe(path: Path) -> dict:
    """Return the entries of a YAML file: scalars, lists of scalars, or None. Raises RunError for anything else."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would block
            raise ValueError("it is not a file")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE} bytes")
        entries = yaml.load(content.decode(), RecipeLoader)  # a subclass of the safe loader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else os_reason(error)
        raise RunError(f"cannot read recipe {path}: {reason[:300]}") from error
    except (LookupError, AttributeError) as error:  # what PyYAML raises for `!!int ""` or `!!timestamp foo`
        raise RunError(f"cannot read recipe {path}: a tag (!!) does not fit its value") from error
    if not isinstance(entries, dict):
        raise RunError(f"recipe {path} is not a list of 'flag: value' lines")
    return {key: checked(path, key, value) for key, value in entries.items()}


def checked(path: Path, key: Any, value: Any) -> Any:
    """Return `value` in the form that its flag takes.

    YAML reads the list item `- fence: sidewalk` as a mapping. It becomes the string "fence:sidewalk".
    """
    if not isinstance(key, str) or not key.isprintable():
        raise RunError(f"recipe {path}: {key!r:.80} is not the name of a flag")
    if isinstance(value, list):
        value = [":".join(map(str, *item.items())) if is_pair(item) else item for item in value]
    for item in value if isinstance(value, list) else [value]:
        if item is None and not isinstance(value, list):
            continue
        if not isinstance(item, SCALARS) or (isinstance(item, str) and not is_line(item)):
            raise RunError(f"recipe {path}: {key} is {item!r:.80}, but takes a number, a string, true or false")
        if isinstance(item, int) and abs(item) >= LARGEST_NUMBER:  # Python does not even print the largest
            raise RunError(f"recipe {path}: {key} is out of range: it is too large")
    return value


def is_pair(item: Any) -> bool:
    return (
        isinstance(item, dict) and len(item) == 1 and all(isinstance(part, SCALARS) for part in (*item, *item.values()))
    )


def is_line(text: str) -> bool:
    """Whether `text` is one line without control characters. Names of files hold tabs, odd spaces and joined emoji."""
    return all(character == "\t" or category(character) not in ("Cc", "Cs", "Zl", "Zp") for character in text)
