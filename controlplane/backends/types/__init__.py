"""Types of tasks: files in the package and in a folder of the user."""
