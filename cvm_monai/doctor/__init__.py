"""Check the installation and estimate the cost of a training. Importing this loads nothing heavy."""
