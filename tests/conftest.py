"""No test uses the network: libraries that would ask a model hub, and wait for it, are told so."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
