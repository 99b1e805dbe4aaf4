"""Resolves a corpus's name, reads its paragraphs, and tokenizes them into rows."""
