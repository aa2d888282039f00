"""The controller: kopf as the shell, reflectors as the eyes, one level-triggered reconcile per OmniDeployment."""
