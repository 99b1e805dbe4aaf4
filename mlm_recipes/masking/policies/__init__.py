"""Masking policies: each file has one way to choose the tokens that are masked."""
