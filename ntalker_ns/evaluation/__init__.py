"""How good a talking head is: errors by region, baselines to beat, and what the lips do."""
