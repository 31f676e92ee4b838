"""Data that comes with the package: known-answer items for judges."""
