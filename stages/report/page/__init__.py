"""The page of the report: one HTML file that needs no network, and the result in sentences."""
