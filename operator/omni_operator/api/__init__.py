"""The OmniDeployment resource: its spec, its status, and the CRD made from them."""
