"""From findings to better training rows: the repair plan, applying it, the review queue, subsets."""
