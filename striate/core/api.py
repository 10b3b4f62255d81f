"""The public functions on arrays: each is the function on nodes that defines it, lifted."""

from __future__ import annotations

from striate.core.array import lift
from striate.ops import (
    activation,
    adaptive,
    avg_pool as avg_pool_,
    convolution,
    elementwise,
    functions,
    index,
    matmul as matmul_,
    movement,
    padding,
    pool,
    rearrange,
    reduce,
    resize as resize_,
    special,
)

# ---- convolution ---------------------------------------------------------------------------
conv = lift(convolution.convolution)
conv_transpose = lift(convolution.convolution_transpose)
conv_general = lift(convolution.convolution_general)
matmul = lift(matmul_.matmul)
linear = lift(matmul_.linear)

# ---- pooling ---------------------------------------------------------------------------------
max_pool = lift(pool.max_pool)
max_unpool = lift(pool.max_unpool)
avg_pool = lift(avg_pool_.avg_pool)
lp_pool = lift(avg_pool_.lp_pool)
adaptive_avg_pool = lift(adaptive.adaptive_avg_pool)
adaptive_max_pool = lift(adaptive.adaptive_max_pool)
global_avg_pool = lift(adaptive.global_avg_pool)
global_max_pool = lift(adaptive.global_max_pool)

# ---- elementwise -----------------------------------------------------------------------------
astype = lift(elementwise.cast)
add = lift(elementwise.add)
subtract = lift(elementwise.subtract)
multiply = lift(elementwise.multiply)
divide = lift(elementwise.divide)
floor_divide = lift(elementwise.floor_divide)
remainder = lift(elementwise.remainder)
maximum = lift(elementwise.maximum)
minimum = lift(elementwise.minimum)
atan2 = lift(elementwise.atan2)
negative = lift(elementwise.negative)
equal = lift(elementwise.equal)
not_equal = lift(elementwise.not_equal)
less = lift(elementwise.less)
less_equal = lift(elementwise.less_equal)
greater = lift(elementwise.greater)
greater_equal = lift(elementwise.greater_equal)
logical_and = lift(elementwise.logical_and)
logical_or = lift(elementwise.logical_or)
logical_xor = lift(elementwise.logical_xor)
logical_not = lift(elementwise.logical_not)
isnan = lift(elementwise.isnan)
isinf = lift(elementwise.isinf)
isfinite = lift(elementwise.isfinite)
where = lift(elementwise.where)
bitwise_and = lift(elementwise.bitwise_and)
bitwise_or = lift(elementwise.bitwise_or)
bitwise_xor = lift(elementwise.bitwise_xor)
bitwise_invert = lift(elementwise.bitwise_invert)

# ---- functions of one number -----------------------------------------------------------------
pow = lift(functions.pow)
abs = lift(functions.abs)
sign = lift(functions.sign)
exp = lift(functions.exp)
expm1 = lift(functions.expm1)
log = lift(functions.log)
log1p = lift(functions.log1p)
log2 = lift(functions.log2)
log10 = lift(functions.log10)
sqrt = lift(functions.sqrt)
rsqrt = lift(functions.rsqrt)
square = lift(functions.square)
reciprocal = lift(functions.reciprocal)
sin = lift(functions.sin)
cos = lift(functions.cos)
tan = lift(functions.tan)
asin = lift(functions.asin)
acos = lift(functions.acos)
atan = lift(functions.atan)
sinh = lift(functions.sinh)
cosh = lift(functions.cosh)
tanh = lift(functions.tanh)
asinh = lift(functions.asinh)
acosh = lift(functions.acosh)
atanh = lift(functions.atanh)
floor = lift(functions.floor)
ceil = lift(functions.ceil)
trunc = lift(functions.trunc)
round = lift(functions.round)

# ---- special functions -----------------------------------------------------------------------
copysign = lift(special.copysign)
erf = lift(special.erf)
hypot = lift(special.hypot)
logaddexp = lift(special.logaddexp)
sigmoid = lift(special.sigmoid)
signbit = lift(special.signbit)

# ---- activations -----------------------------------------------------------------------------
celu = lift(activation.celu)
clip = lift(activation.clip)
elu = lift(activation.elu)
gelu = lift(activation.gelu)
glu = lift(activation.glu)
hardshrink = lift(activation.hardshrink)
hardsigmoid = lift(activation.hardsigmoid)
hardswish = lift(activation.hardswish)
hardtanh = lift(activation.hardtanh)
leaky_relu = lift(activation.leaky_relu)
log_sigmoid = lift(activation.log_sigmoid)
mish = lift(activation.mish)
prelu = lift(activation.prelu)
relu = lift(activation.relu)
relu6 = lift(activation.relu6)
selu = lift(activation.selu)
silu = lift(activation.silu)
softplus = lift(activation.softplus)
softshrink = lift(activation.softshrink)
softsign = lift(activation.softsign)
tanhshrink = lift(activation.tanhshrink)
threshold = lift(activation.threshold)

# ---- movement --------------------------------------------------------------------------------
permute_dims = lift(movement.transpose)
pad = lift(padding.pad)
reshape = lift(movement.reshape)
broadcast_to = lift(movement.broadcast_to)
flip = lift(movement.flip)
matrix_transpose = lift(movement.matrix_transpose)
broadcast_arrays = lift(rearrange.broadcast_arrays)
concat = lift(rearrange.concat)
cumulative_sum = lift(rearrange.cumulative_sum)
expand_dims = lift(rearrange.expand_dims)
flatten = lift(rearrange.flatten)
moveaxis = lift(rearrange.moveaxis)
pixel_shuffle = lift(rearrange.pixel_shuffle)
pixel_unshuffle = lift(rearrange.pixel_unshuffle)
repeat = lift(rearrange.repeat)
roll = lift(rearrange.roll)
split = lift(rearrange.split)
squeeze = lift(rearrange.squeeze)
stack = lift(rearrange.stack)
swapaxes = lift(rearrange.swapaxes)
tile = lift(rearrange.tile)
tril = lift(rearrange.tril)
triu = lift(rearrange.triu)
unstack = lift(rearrange.unstack)

# ---- resizing --------------------------------------------------------------------------------
resize = lift(resize_.resize)

# ---- indexing --------------------------------------------------------------------------------
take = lift(index.take)
put_add = lift(index.put_add)
take_along_axis = lift(index.take_along_axis)
scatter_add = lift(index.scatter_add)
one_hot = lift(index.one_hot)

# ---- reductions ------------------------------------------------------------------------------
sum = lift(reduce.sum)
mean = lift(reduce.mean)
var = lift(reduce.var)
std = lift(reduce.std)
max = lift(reduce.max)
min = lift(reduce.min)
argmax = lift(reduce.argmax)
argmin = lift(reduce.argmin)
all = lift(reduce.all)
any = lift(reduce.any)
stop_gradient = lift(reduce.stop_gradient)
logsumexp = lift(reduce.logsumexp)
softmax = lift(reduce.softmax)
log_softmax = lift(reduce.log_softmax)
