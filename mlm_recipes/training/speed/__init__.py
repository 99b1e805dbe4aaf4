"""What makes a step fast, when it can be used, and what it costs."""
