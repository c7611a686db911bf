"""Egress: the one way from a sandbox to hosts outside, for agents that were given some: a proxy with a list."""
