"""What an agent talks to Conductor with from inside its sandbox: the command `conductor-agent` and an MCP server."""
