"""Weakly supervised histopathology segmentation from points by a contrast-based variational model (CVM).

`import cvm_monai as cvm` offers the names in `__init__.pyi`; each is loaded when it is asked for, so that the import
itself takes no time.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
