"""HTTP/2 as a server speaks it (RFC 9113): bytes in, events and bytes out. No I/O, no clock, no gRPC."""
