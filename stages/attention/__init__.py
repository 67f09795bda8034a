"""What the vision-language bidirectional attention (VLBA) of a model attends to, as a table and as images."""
