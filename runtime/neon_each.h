/* Depthwise convolutions of whole numbers for NEON. */
#ifndef NEON_EACH_H
#define NEON_EACH_H

#include <arm_neon.h>

#include "neon.h"
#include "windows.h"

/* Depthwise: 8 channels of `EACH_PIXELS` pixels, whose windows and results are given. */
enum { EACH_CHANNELS = 8, EACH_PIXELS = 8 };

INLINE void each_block(const struct convolution *one, const int8_t *kernel,
                       const int16_t *const *window, float *const *out, int count)
{
    int32x4_t low[EACH_PIXELS], high[EACH_PIXELS];
    UNROLLED for (int i = 0; i < EACH_PIXELS; i++)
        low[i] = high[i] = vdupq_n_s32(0);
    for (int row = 0; row < one->kh; row++) {
        size_t at = (size_t)row * (size_t)one->columns * (size_t)one->c;
        for (int k = 0; k < one->kw; k++, at += (size_t)one->c, kernel += one->c) {
            int16x8_t weights = vmovl_s8(vld1_s8(kernel));
            UNROLLED for (int i = 0; i < EACH_PIXELS; i++) {
                int16x8_t x = vld1q_s16(window[i] + at);
                low[i] = vmlal_s16(low[i], vget_low_s16(x), vget_low_s16(weights));
                high[i] = vmlal_high_s16(high[i], x, weights);
            }
        }
    }
    UNROLLED for (int i = 0; i < EACH_PIXELS; i++) {
        if (i < count) {
            vst1q_f32(out[i], vcvtq_f32_s32(low[i]));
            vst1q_f32(out[i] + 4, vcvtq_f32_s32(high[i]));
        }
    }
}

/* Depthwise, of at least 8 channels: the last 8 can be computed twice. */
static void each_whole(const struct convolution *one, const int16_t *packed, int y0, int y1, float *out)
{
    int end = y1 * one->ow;
    for (int place = y0 * one->ow; place < end; place += EACH_PIXELS) {
        int count = lesser(EACH_PIXELS, end - place);
        for (int from = 0; from < one->c; from += EACH_CHANNELS) {
            int channel = lesser(from, one->c - EACH_CHANNELS);
            const int16_t *window[EACH_PIXELS];
            float *to[EACH_PIXELS];
            for (int i = 0; i < EACH_PIXELS; i++) {
                int at = place + lesser(i, count - 1);
                window[i] = packed + window_at(one, at / one->ow, at % one->ow) + channel;
                to[i] = out + (size_t)(at - y0 * one->ow) * (size_t)one->o + channel;
            }
            each_block(one, (const int8_t *)one->kernel + channel, window, to, count);
        }
    }
}

#endif
