"""What each verb does, from top to bottom."""
