"""The patterns, in the order in which they are looked for."""

from optops.graph.optimizer.patterns.constant import CONSTANT
from optops.graph.optimizer.patterns.conv_batch_norm import CONV_BATCH_NORM
from optops.graph.optimizer.patterns.duplicate import DUPLICATE
from optops.graph.optimizer.patterns.encoder_stack import ENCODER_STACK
from optops.graph.optimizer.patterns.identity import IDENTITY
from optops.graph.optimizer.patterns.reshape_chain import RESHAPE_CHAIN
from optops.graph.optimizer.patterns.transpose_pair import TRANSPOSE_PAIR
from optops.graph.optimizer.rewriting import Pattern

TIDYING: tuple[Pattern, ...] = (CONSTANT, IDENTITY, DUPLICATE, TRANSPOSE_PAIR, RESHAPE_CHAIN)
PLAIN: tuple[Pattern, ...] = (CONV_BATCH_NORM,)
KERNELS: tuple[Pattern, ...] = (ENCODER_STACK,)
