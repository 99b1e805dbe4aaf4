"""Measures a model on masked tokens, before and after training."""
