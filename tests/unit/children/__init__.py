"""Tests of omni_operator/children."""
