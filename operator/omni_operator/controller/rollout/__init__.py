"""Which revision runs (decide), and everything that is to be written for it (plan). Pure."""
