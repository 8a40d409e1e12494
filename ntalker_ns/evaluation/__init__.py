"""Evaluation of talking heads: errors by region, baselines, lip synchronisation."""
