"""The dataset `scenes`, which the project renders itself: shapes, their arrangement, and expressions about them."""
