"""Tests of planning, rendering, deciding and of the client, without a cluster."""
