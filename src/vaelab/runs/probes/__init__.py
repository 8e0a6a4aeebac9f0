"""Probe parts with a few examples before any work, so that one that breaks its contract is refused in one line.

A probe calls a part as training and evaluation will, and compares what it returns with what it should.
"""
