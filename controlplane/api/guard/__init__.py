"""Interceptors every call passes."""
