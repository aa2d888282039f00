"""From a revision to the objects that make it real: pure builders, one file per kind."""
