"""From a spec and an inventory to a Plan: pure functions, no clock, no I/O."""
