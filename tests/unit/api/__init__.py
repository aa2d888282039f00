"""Tests of omni_operator/api."""
