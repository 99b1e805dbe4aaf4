"""The values of MLMConfig, a group in each file."""
