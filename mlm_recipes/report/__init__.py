"""What people look at: the terminal, report.html, the model card, runs side by side."""
