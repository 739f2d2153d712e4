"""The steps of a proof: sources drafted, names checked, samples rendered, letters linted."""
