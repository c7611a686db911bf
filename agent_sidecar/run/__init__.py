"""Running one task: hooks in order around one sandboxed process."""
