"""Tests: unit/ needs nothing but Python, api/ needs a real API server."""
