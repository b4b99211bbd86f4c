"""An embedded cluster for tests and demos. Imported by nothing else in the package but the command line."""
