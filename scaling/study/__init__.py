"""A study from its plan to its report, and which runs to add to it."""
