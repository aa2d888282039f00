"""Tests of omni_operator/engine."""
