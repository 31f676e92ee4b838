"""Scripts for working on the project; not in the wheel."""
