"""Tests of the programs that run inside the engine's pods: each as a process, on this machine."""
