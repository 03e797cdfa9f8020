"""What can be wrong with an evaluation that was asked for."""


class EvaluateError(ValueError):
    """A feature space that cannot be used, or images that cannot be judged; the message says what to write."""
