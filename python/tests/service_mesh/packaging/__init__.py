"""What is installed, and beside whom."""
