"""What a run on one or many GPUs will take, before one is rented: `mlm-recipes plan`."""
