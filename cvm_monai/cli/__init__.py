"""The command line tool `cvm-monai`, one thin module for each command."""
