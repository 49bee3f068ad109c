"""Kennel's bootstrap for Python handlers: CPython 2.7 and 3.6 or newer, and Jython 2.7.

Python compiles the file that it is started with each time, but keeps what an imported one compiles to (`build` makes
those files ahead). So this one is short, and the rest is in the package beside it.
"""
import sys

folder = __file__.rpartition("/")[0]
if folder not in sys.path:  # PYTHONSAFEPATH
    sys.path.insert(0, folder)

from _kennel import main

main(folder)
