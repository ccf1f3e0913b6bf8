"""Small measurements beside a run, which the checks judge: see `robustgen.evidence`."""

from robustgen.probes.pair import Probe as Probe
from robustgen.probes.pair import probe_pair as probe_pair
