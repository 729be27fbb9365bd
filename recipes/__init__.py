"""Training recipes; not part of the wheel."""
