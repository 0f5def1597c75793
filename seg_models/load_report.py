"""What became of the tensors of a file that a network starts from, in lines for the user."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """What became of a file's tensors: layers by outcome."""

    loaded: set[str] = field(default_factory=set)  # names of tensors
    rows: dict[str, list[str]] = field(default_factory=dict)  # classifier -> classes that kept their row
    refused: dict[str, list[str]] = field(default_factory=dict)  # why -> layers


def describe(report: Report, target: dict, tensors: dict, title: str) -> str:
    """Lines for the user: how much of `target` was loaded, what was not and why, and which of `tensors` had no use.

    target   the network's tensors by name
    tensors  those of the file, under the network's names
    """
    counted = {key for key in target if not key.endswith("num_batches_tracked")}
    loaded = counted & report.loaded
    numbers = [sum(target[key].numel() for key in keys) / 1e6 for keys in (loaded, counted)]
    lines = [f"{title}: {len(loaded)} of {len(counted)} tensors loaded, {numbers[0]:.2f} of {numbers[1]:.2f} M numbers"]
    for layer, kept in report.rows.items():
        classes = len(target[f"{layer}.weight"])
        which = "every class" if len(kept) == classes else f"{len(kept)} of {classes} classes: {', '.join(kept)}"
        lines.append(f"  {layer} keeps the rows of {which}")
    lines += [f"  new, {why}: {some(layers)}" for why, layers in report.refused.items()]
    unused = {key.rpartition(".")[0] for key in tensors} - {key.rpartition(".")[0] for key in target}
    if unused:
        lines.append(f"  of no use here: {some(sorted(unused))}")
    return "\n".join(lines)


def some(names: list[str], most: int = 6) -> str:
    """The first `most` different names, and how many more there are."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
