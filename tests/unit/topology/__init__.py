"""Tests of omni_operator/topology."""
