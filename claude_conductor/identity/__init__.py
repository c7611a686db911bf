"""Who programs are to each other over a network: names, keys, and what is kept of them on disk."""
