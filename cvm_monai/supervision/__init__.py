"""Supervisions, the ways to learn from points: one module per method, one abstract base class for all."""
