"""`omni` and `kubectl omni`: what the operator sees and does, for people at a terminal."""
