"""gRPC in one place: channels, servers, status, deadlines."""
