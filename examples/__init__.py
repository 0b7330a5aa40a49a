"""Complete programs of one screen each."""
