"""End-to-end tests: a real cluster (cluster/), the real engine without a GPU (engine/) and the tests that use both."""
