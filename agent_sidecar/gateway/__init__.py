"""The model gateway: an agent's way to its model provider, without network and without the key."""
