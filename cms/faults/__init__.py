"""
The catalogue of faults: every failure and every warning, by step.

Use an entry as C{faults.NAME}, whichever step it belongs to.  There is a module for each
step, and nothing to register: docs/design/catalogue.md says how to add an entry.
"""

from __future__ import annotations

from collections.abc import Mapping

from cms.faults import (
    step01_link_before_login,
    step02_cluster,
    step02_configuration,
    step02_directory,
    step02_directorycheck,
    step03_port,
    step04_srv,
    step05_address,
    step06_connect,
    step07_browser,
    step07_certificates,
    step07_tls,
    step07_warnings,
    step08_identity,
    step09_register,
    step10_registered,
    step11_active,
    step12_directory,
    step12_directorycheck,
    step12_joining,
    step12_login,
    step12_meeting,
)
from cms.faults.advice import *  # noqa: F403
from cms.faults.kinds import *  # noqa: F403
from cms.faults.step01_link_before_login import *  # noqa: F403
from cms.faults.step02_cluster import *  # noqa: F403
from cms.faults.step02_configuration import *  # noqa: F403
from cms.faults.step02_directory import *  # noqa: F403
from cms.faults.step02_directorycheck import *  # noqa: F403
from cms.faults.step03_port import *  # noqa: F403
from cms.faults.step04_srv import *  # noqa: F403
from cms.faults.step05_address import *  # noqa: F403
from cms.faults.step06_connect import *  # noqa: F403
from cms.faults.step07_browser import *  # noqa: F403
from cms.faults.step07_certificates import *  # noqa: F403
from cms.faults.step07_tls import *  # noqa: F403
from cms.faults.step07_warnings import *  # noqa: F403
from cms.faults.step08_identity import *  # noqa: F403
from cms.faults.step09_register import *  # noqa: F403
from cms.faults.step10_registered import *  # noqa: F403
from cms.faults.step11_active import *  # noqa: F403
from cms.faults.step12_directory import *  # noqa: F403
from cms.faults.step12_directorycheck import *  # noqa: F403
from cms.faults.step12_joining import *  # noqa: F403
from cms.faults.step12_login import *  # noqa: F403
from cms.faults.step12_meeting import *  # noqa: F403

CATALOGUE: Mapping[str, Fault] = whole(  # noqa: F405
    step01_link_before_login,
    step02_configuration,
    step02_cluster,
    step02_directory,
    step02_directorycheck,
    step03_port,
    step04_srv,
    step05_address,
    step06_connect,
    step07_tls,
    step07_certificates,
    step07_warnings,
    step07_browser,
    step08_identity,
    step09_register,
    step10_registered,
    step11_active,
    step12_login,
    step12_directory,
    step12_directorycheck,
    step12_joining,
    step12_meeting,
)
