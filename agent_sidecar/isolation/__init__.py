"""Isolation: what a host can do, what a level asks for, and a sandbox made of it."""
