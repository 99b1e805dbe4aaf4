"""Chooses the masked tokens and their replacements, and lays out batches."""
