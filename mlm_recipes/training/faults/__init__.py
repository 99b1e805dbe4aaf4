"""What goes wrong during a run, and how the run goes on or ends in order."""
