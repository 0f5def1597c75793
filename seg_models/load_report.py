"""Report which initial weights were loaded and which were not, in lines for the user."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """Outcome of loading a file into a network."""

    loaded: set[str] = field(default_factory=set)  # names of loaded tensors
    rows: dict[str, list[str]] = field(default_factory=dict)  # classifier -> classes whose row was loaded
    refused: dict[str, list[str]] = field(default_factory=dict)  # reason -> layers that were not loaded


def describe(report: Report, target: dict, tensors: dict, title: str) -> str:
    """Return lines for the user: how much was loaded, which layers were not and why, and which tensors are unused.

    target   {name: tensor} of the network
    tensors  {name: tensor} of the file, under the network's names
    title    beginning of the first line
    """
    counted = {key for key in target if not key.endswith("num_batches_tracked")}
    loaded = counted & report.loaded
    numbers = [sum(target[key].numel() for key in keys) / 1e6 for keys in (loaded, counted)]
    lines = [f"{title}: {len(loaded)} of {len(counted)} tensors loaded, {numbers[0]:.2f} of {numbers[1]:.2f} M numbers"]
    for layer, kept in report.rows.items():
        classes = len(target[f"{layer}.weight"])
        which = "every class" if len(kept) == classes else f"{len(kept)} of {classes} classes: {', '.join(kept)}"
        lines.append(f"  {layer} takes the rows of {which}")
    lines += [f"  not loaded, {why}: {some(layers)}" for why, layers in report.refused.items()]
    unused = {layer_of(key) for key in tensors} - {layer_of(key) for key in target}
    if unused:
        lines.append(f"  unused: {some(sorted(unused))}")
    return "\n".join(lines)


def layer_of(tensor: str) -> str:
    return tensor.rpartition(".")[0] or tensor


def some(names: list[str], most: int = 6) -> str:
    """Return the first `most` distinct names in one string, and the number of the others."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
