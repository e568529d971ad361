"""torchrun's command line and variables, and the same said in keys of this package: text in, text out."""
