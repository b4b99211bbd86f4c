"""What runs inside the namespaces: a small program that the runtime starts with `python -I -S`.

It holds to the standard library and to relative imports, because it is imported as a package of its own there: neither
site-packages nor the rest of this distribution is on its path, which is what keeps its start to some milliseconds.
"""
