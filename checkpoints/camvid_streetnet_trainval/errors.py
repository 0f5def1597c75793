"""The error that this package raises for its user."""


class ModelError(ValueError):
    """A network or weights cannot be built or loaded as asked. The message is one line for the user."""


def first_line(error: Exception) -> str:
    """The class of an error and the first line of its text, for errors of other libraries."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
