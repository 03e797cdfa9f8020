"""A study from its plan to its report, and the choice of further runs for it."""
