"""Read YAML files that people write about classes. Every value is text, so a class may be called `no` or `1e3`."""

from pathlib import Path
from typing import Any

import yaml

from .labels import DataError

MOST_BYTES = 200_000  # 255 classes with long names and comments take a quarter of it


class TextLoader(yaml.BaseLoader):
    """Read every scalar as text.

    Refuse repeated keys, tags, and aliases, with which a small file can fill all memory.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, f"write out what *{event.anchor} means", event.start_mark)
        if event.tag not in (None, "!"):
            raise yaml.composer.ComposerError(None, None, f"remove the tag {event.tag}", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_start(path: Path | str, name: str) -> bytes:
    """Return as much of a file as `load_text_yaml` takes. Raises `DataError`, which calls the file `name`."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error


def load_text_yaml(content: bytes, path: Path | str) -> Any:
    """Return the content of a YAML file as text, lists and dicts.

    content  of at most `MOST_BYTES` + 1 bytes: more are refused
    path     names the file at the beginning of each `DataError`
    """
    if len(content) > MOST_BYTES:
        raise DataError(f"{path} has more than {MOST_BYTES} bytes: it is not a list of classes")
    try:
        return yaml.load(content.decode("utf-8-sig"), TextLoader)  # it makes only text, lists and dicts
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: save it with that encoding") from error
    except (yaml.constructor.ConstructorError, yaml.composer.ComposerError) as error:
        reason = " ".join(filter(None, (error.context, error.problem)))
        raise DataError(f"{path} cannot be read as YAML{_at(error)}: {reason}") from error
    except (yaml.YAMLError, RecursionError) as error:
        remedy = "indent the lines of one class equally, with spaces, close brackets and quotes, quote names with :"
        raise DataError(f"{path} cannot be read as YAML{_at(error)}: {remedy}") from error


def _at(error: Exception) -> str:
    """Return where an error of YAML lies, or ""."""
    mark = getattr(error, "problem_mark", None)
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
