"""`make demo`: Conductor at work on a real repository."""
