"""End-to-end tests with a real cluster (cluster/) and the real engine without a GPU (engine/)."""
