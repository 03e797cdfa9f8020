"""Sources whose entropy is known: teachers with exact likelihoods, from which examples are drawn without end."""
