"""`omni` and `kubectl omni`: shows and plans OmniDeployments at a terminal."""
