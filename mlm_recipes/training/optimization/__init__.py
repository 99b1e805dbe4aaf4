"""What changes the weights: optimizers, learning rates, schedules, and which parts of a model learn."""
