"""Checks of raw data: each is one function from the data to findings, with a suggested repair."""
