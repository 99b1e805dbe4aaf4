"""What processes that train together must know of one another."""
