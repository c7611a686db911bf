"""Stores in Redis: atomic steps are Lua scripts, keys of one tenant share a slot."""
