"""Probes: how well a linear classifier on a frozen encoder's features does a labelled task, before and after."""
