"""What stands behind the Makefile; needs the standard library alone. Without make: ``python -m tools.NAME``."""
