"""Write runs to MLflow, while stages run and afterwards from the outputs that DVC keeps."""
