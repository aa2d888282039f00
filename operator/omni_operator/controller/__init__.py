"""The controller: kopf as the shell, reflectors, one level-triggered reconcile per object."""
