"""What runs produced: records, logs, metrics, and the tuned runs among them."""
