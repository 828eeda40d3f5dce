/* Kernels in plain C: right on every machine, and the definition of all others. */
#include "elements.h"
#include "windows.h"

const struct kernels PORTABLE = {
    .name = "portable",
    .pack = pack_numbers,
    .convolve = convolve_by_window,
    .arithmetic = arithmetic,
    .affine = affine,
    .rectify = rectify,
    .quantize = quantize,
    .combine = combine,
    .from_bytes = from_bytes,
    .to_bytes = to_bytes,
    .maximum = maximum,
    .add_double = add_double,
};
