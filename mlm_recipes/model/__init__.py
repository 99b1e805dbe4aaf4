"""Loading a model, its loss, and the fast paths through it."""
