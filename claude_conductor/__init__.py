"""Claude Conductor: the foundation that control plane, sidecar, client and command line share."""

__version__ = "0.1.0"
