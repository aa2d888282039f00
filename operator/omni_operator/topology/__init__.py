"""What the nodes have: their capacity, what pods have requested of it, and who may use it."""
