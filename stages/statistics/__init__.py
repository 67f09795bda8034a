"""How sure a comparison is: intervals and p-values over images and seeds, slices of expressions, pairs of variants."""
