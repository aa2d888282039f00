"""Tests of omni_operator/connectors."""
