"""
Every way in which a step can fail, and what works but should be put right: one catalogue.

Use an entry as C{faults.NAME}: whichever step it belongs to, it is found here.
"""

from cms.faults.failures import *  # noqa: F403 - the entries, whatever their step
from cms.faults.warnings import *  # noqa: F403
