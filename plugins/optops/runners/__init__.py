"""Runners: where an operator or the command line runs a stage; each starts the same program."""
