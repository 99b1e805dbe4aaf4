"""What accompanies a run: progress, trackers, early stopping, the best model, counts."""
