"""Which rows each step reads, in which order, and the share of each that is masked."""
