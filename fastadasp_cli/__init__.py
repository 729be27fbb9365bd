"""The command line: collects options and calls one function of `core` for each command."""
