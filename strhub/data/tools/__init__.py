"""`strhub data`: merges, filters, splits, measures, verifies and exports data sets; a source is never changed."""
