"""What an installation is, as one page with diagrams, written from its contracts and flows.

Everything on the page follows from the files, and nothing else does: no time, no path of a machine,
no state of a broker. So the same files give the same bytes, and a committed page can be held
against them.
"""

from edo_stream.blueprint.page import blueprint

__all__ = ["blueprint"]
