"""One module per concern of a run; the order they are used in is written in `agent_sidecar.run.runner`."""
