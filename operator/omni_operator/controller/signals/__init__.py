"""Background requests to servers and readers of logs; their results are in the next Snapshot.

A reconcile never waits for them.
"""
