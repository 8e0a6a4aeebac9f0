"""Reproductions of published figures and claims."""
