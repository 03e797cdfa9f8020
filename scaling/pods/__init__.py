"""Compiling for TPUs that are not here: whether a program fits, how its work is spread, how fast it could be.

    result = attempt.attempt(experiment, "v5p:4x4x4")            # one compile, in a process of its own
    result = search.nearest_that_fits(experiment, "v5p:4x4x4")   # and, if that does not fit, a change that does
    print(table.format_report(result))

docs/hardware.md explains the figures and names the sources of those of the chips.
"""
