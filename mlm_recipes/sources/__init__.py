"""What comes from elsewhere, and what keeps it harmless."""
