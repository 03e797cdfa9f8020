"""What cannot be served, in a module that loads neither JAX nor a web framework."""


class ServeError(ValueError):
    """What cannot be served; the message says why, and `param` names the field of the request that is wrong, if one is."""

    def __init__(self, message: str, param: str | None = None):
        super().__init__(message)
        self.param = param
