"""`cxrkit download`: NIH's archives and tables, from NIH's page into a raw folder, whole and checked.

Imports nothing itself: the command line asks for `downloading`, which has the rest.
"""
