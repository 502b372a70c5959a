"""How a network learns from points: one file for each method, one protocol for all."""
