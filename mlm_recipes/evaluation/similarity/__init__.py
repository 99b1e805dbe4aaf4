"""Compares two encoders by the similarities that their vectors give to pairs of texts, and to queries and documents."""
