"""Settings: frozen values, and the one place that loads files and environment."""
