"""Untrusted: how what an agent or a provider sends is read, with bounds and without ever failing on its shape."""
