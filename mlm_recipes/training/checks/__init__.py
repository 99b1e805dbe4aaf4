"""What is refused before a run, and how it is said."""
