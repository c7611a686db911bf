"""An own server for gRPC: the interface of grpc.aio.Server, with HTTP/2 in Python (docs/decisions/0008-own-grpc-server.md)."""
