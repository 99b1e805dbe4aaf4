"""Which tokens are masked and by what, and how a batch is laid out."""
