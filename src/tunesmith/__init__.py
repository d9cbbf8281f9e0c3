"""Tunesmith: fine-tuning with proof, from raw rows to a verdict you can trust."""

__version__ = "0.1.0"
