"""The Python client: async, with a thin sync face."""
