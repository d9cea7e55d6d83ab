"""When CPython looks for cycles in the processes that serve pages and phones.

A full collection walks every object that could hold another. What the program itself is made of (modules, mapped
classes, templates: some 800,000 objects) took it a tenth of a second at each, in which no phone and no page was
answered. It is set aside once; young objects are looked at less often, since most of a request's are gone by then.
"""

import gc

YOUNG = 5_000  # objects made and not gone, before they are looked at; CPython's own 700 are made by two requests


def settle() -> None:
    """What is loaded by now stays for the life of the process: it is never walked again. A collector that was switched
    off meanwhile works from here on.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
