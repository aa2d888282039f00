"""What status says.

One module per condition type, the status as a whole, and the events that follow from its changes.
Pure.
"""
