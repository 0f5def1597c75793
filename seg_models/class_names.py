"""Names of classes."""

from collections import Counter
from collections.abc import Iterable, Mapping


def names_by_id(id2label: Mapping[int | str, str]) -> list[str]:
    """Return the names in the order of their ids, which are text where a JSON file was read without transformers."""
    return [id2label[key] for key in sorted(id2label, key=int)]


def each_distinct(names: Iterable[str]) -> list[tuple[str, int]]:
    """Return each name with the number of equal names before it, so that no two entries are equal."""
    seen = Counter()
    found = []
    for name in names:
        found.append((name, seen[name]))
        seen[name] += 1
    return found
