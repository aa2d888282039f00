"""One process of the operator.

Kopf as the shell, the manager of reflectors and workers, health endpoints, metrics, settings.
"""
