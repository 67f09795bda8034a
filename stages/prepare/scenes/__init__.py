"""The dataset `scenes`, which the project renders itself: shapes, their arrangement, and what is said of them."""
