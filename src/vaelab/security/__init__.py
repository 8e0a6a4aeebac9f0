"""Strangers' files: how they are read, what they may ask for, and what is never written."""
