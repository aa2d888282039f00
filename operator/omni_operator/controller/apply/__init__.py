"""Writes to the API server.

The executor of an ActionPlan, children, the OmniDeployment itself, and dry runs.
"""
