"""What comes out of a run: the store with its resume, the side formats, the report.

Knows records and errors only.
"""
