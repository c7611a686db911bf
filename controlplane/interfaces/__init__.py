"""What the services need from a store: one Protocol a file."""
