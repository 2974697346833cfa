"""Classification datasets: one layout a file, registered as ``cls.<class name>``."""
