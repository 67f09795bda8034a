"""The DVC stage that reads and checks a source and writes the prepared dataset; also a page to look at it."""
