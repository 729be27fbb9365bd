"""From inputs to pieces of sound: find recordings, decode them, cut them for the model's window.

Knows only `records` and `errors`. Heavy libraries are imported where they are used, so importing
a module of this room costs nothing.
"""
