"""The files of a task: where they come from, whose they are, what became of them."""
