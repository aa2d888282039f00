"""What happens when a part fails: every part of a serving pipeline is killed in turn, under requests, and what follows is timed."""
