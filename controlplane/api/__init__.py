"""The wire: servicers, conversion and the guard chain."""
