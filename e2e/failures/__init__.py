"""Fault injection: kills every part of a serving pipeline under requests, and measures recovery."""
