"""What this package says to its user."""


class ModelError(ValueError):
    """A request for a network, or for weights, that cannot be met: one line for the user."""


def first_line(error: Exception) -> str:
    """The class of an error and the first line of its text, for errors of other libraries."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
