/* Kernels in plain C: right on every machine, and the definition of all others. */
#include "elements.h"
#include "windows.h"

CONVOLVE(in_whole, int32_t, int16_t, int8_t)
CONVOLVE(in_float, double, float, float)
CONVOLVE_EACH(each_in_whole, int32_t, int16_t, int8_t)
CONVOLVE_EACH(each_in_float, double, float, float)

static void pack(const struct convolution *one, const void *x, int y0, int y1, void *packed)
{
    if (one->form == IN_FLOAT || one->form == EACH_IN_FLOAT)
        pack_floats(one, x, y0, y1, packed);
    else
        pack_whole(one, x, y0, y1, packed);
}

static void convolve(const struct convolution *one, const void *packed, int y0, int y1, float *out)
{
    if (one->form == IN_FLOAT)
        in_float(one, packed, y0, y1, out);
    else if (one->form == EACH_IN_FLOAT)
        each_in_float(one, packed, y0, y1, out);
    else if (one->form == EACH_IN_WHOLE)
        each_in_whole(one, packed, y0, y1, out);
    else
        in_whole(one, packed, y0, y1, out);
}

const struct kernels PORTABLE = {
    .name = "portable",
    .pack = pack,
    .convolve = convolve,
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
