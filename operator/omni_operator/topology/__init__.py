"""What the nodes offer."""
