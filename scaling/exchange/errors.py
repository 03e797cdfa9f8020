"""The error of what cannot be exchanged."""


class ExchangeError(ValueError):
    """A run that no foreign format holds, or a checkpoint that no family here computes; the message says what to do."""
