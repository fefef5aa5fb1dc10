"""The patterns, in the order in which they are looked for."""

from optops.graph.optimizer.patterns.bias_activation import BIAS_ACTIVATION
from optops.graph.optimizer.patterns.constant import CONSTANT
from optops.graph.optimizer.patterns.conv_batch_norm import CONV_BATCH_NORM
from optops.graph.optimizer.patterns.dense import DENSE
from optops.graph.optimizer.patterns.dot_product_attention import DOT_PRODUCT_ATTENTION
from optops.graph.optimizer.patterns.duplicate import DUPLICATE
from optops.graph.optimizer.patterns.encoder_stack import ENCODER_STACK
from optops.graph.optimizer.patterns.identity import IDENTITY
from optops.graph.optimizer.patterns.merged_heads import MERGED_HEADS
from optops.graph.optimizer.patterns.reshape_chain import RESHAPE_CHAIN
from optops.graph.optimizer.patterns.residual_norm import RESIDUAL_NORM
from optops.graph.optimizer.patterns.rows_product import ROWS_PRODUCT
from optops.graph.optimizer.patterns.shape import SHAPE
from optops.graph.optimizer.patterns.stepwise_norm import STEPWISE_NORM
from optops.graph.optimizer.patterns.transpose_pair import TRANSPOSE_PAIR
from optops.graph.optimizer.rewriting import Pattern

TIDYING: tuple[Pattern, ...] = (CONSTANT, IDENTITY, SHAPE, DUPLICATE, TRANSPOSE_PAIR, RESHAPE_CHAIN)
PLAIN: tuple[Pattern, ...] = (CONV_BATCH_NORM, STEPWISE_NORM, ROWS_PRODUCT)
KERNELS: tuple[Pattern, ...] = (
    MERGED_HEADS,
    RESHAPE_CHAIN,
    ENCODER_STACK,
    DOT_PRODUCT_ATTENTION,
    RESIDUAL_NORM,
    BIAS_ACTIVATION,
)
PRODUCTS: tuple[Pattern, ...] = (DENSE,)
"""Products in float32 are faster in the library for some sizes alone: they are kept only where timing says so."""
