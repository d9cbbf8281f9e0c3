"""Labels and rows that no person wrote: labelling functions, rows made from rows, and what to label next."""
