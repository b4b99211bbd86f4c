"""How to talk to one API server. The only importer of the HTTP library."""
