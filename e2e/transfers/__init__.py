"""Real payloads over the connectors of rendered plans, between pods of the test cluster."""
