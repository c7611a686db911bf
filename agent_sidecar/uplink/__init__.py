"""The one stream to the control plane: outbox, inbox, reconnect."""
