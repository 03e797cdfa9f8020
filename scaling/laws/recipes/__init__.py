"""Two recipes on one ladder of compute: the effective speed-up of a change, its trend, and a verdict."""
