"""The session stream: bytes in, bytes out."""
