"""Comparisons and ablations: plan, run and resume many trainings, and report them together."""
