"""Processes of one run: cores, ranks and seeds."""
