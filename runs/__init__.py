"""A run: from its settings to its results file."""
