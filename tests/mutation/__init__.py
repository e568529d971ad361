"""How many small changes made on purpose the tests of the pure modules notice: `python -m tests.mutation`."""
