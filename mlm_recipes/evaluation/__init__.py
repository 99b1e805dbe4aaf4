"""What a model makes of masked tokens, before and after training."""
