"""A Self-Flow world model for robots: it imagines the next frames and acts."""

__version__ = "0.1.0"
