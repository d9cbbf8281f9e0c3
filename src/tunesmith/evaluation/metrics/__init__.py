"""Metrics: one file per family, all names in ``catalogue.METRICS``, measured by ``measure``."""
