"""Many trainings, one report: plan, run, resume, compare."""
