"""Names of classes."""

from collections import Counter
from collections.abc import Iterable


def each_distinct(names: Iterable[str]) -> list[tuple[str, int]]:
    """Return each name with the number of equal names before it, so that no two entries are equal."""
    seen = Counter()
    found = []
    for name in names:
        found.append((name, seen[name]))
        seen[name] += 1
    return found
