"""Benches: ratios measured in one run, printed; nothing here passes or fails."""
