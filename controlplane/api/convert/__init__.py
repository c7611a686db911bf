"""Between protos and domain values; total functions."""
