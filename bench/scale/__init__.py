"""What OmniDeployments cost, beside direct apply, KubeRay alone and LeaderWorkerSet."""
