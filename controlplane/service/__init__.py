"""Use cases: decide with the domain, act through the interfaces."""
