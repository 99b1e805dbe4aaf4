"""The training loop, and what makes it robust and fast."""
