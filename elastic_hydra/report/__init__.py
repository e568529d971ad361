"""A sweep after the fact: its jobs as a table, as a study of Optuna's, and as a page with pictures."""
