"""Models of this package under lm-eval, the Language Model Evaluation Harness, edits included."""
