"""What MLMTrainer is made of: transformers' Trainer, extended by one concern a class."""
