"""What runs the pipeline many times and compares: the floor between it and the command line."""
