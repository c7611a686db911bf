"""Stores behind the interfaces; none knows another."""
