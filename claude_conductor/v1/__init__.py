"""Generated from proto/claude_conductor/v1 by tools/generate_stubs.py; never edited."""
