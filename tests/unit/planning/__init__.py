"""Tests of omni_operator/planning."""
