"""What this package says to its user."""


class ModelError(ValueError):
    """A request for a network, or for weights, that cannot be met: one line for the user."""
