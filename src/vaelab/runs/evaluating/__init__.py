"""Evaluating a stored run again."""
