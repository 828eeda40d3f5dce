/* The form BY_TABLE for NEON: 32 outputs, and 3 or 6 pixels, at once. */
#ifndef NEON_TABLE_H
#define NEON_TABLE_H

#include "elements.h"
#include "neon.h"
#include "windows.h"

/* Outputs of a block, and sums of 16 bytes that are held in registers: 32 outputs take two. */
enum { TABLE_LANES = 32, HELD = 24 };

/* Whole numbers with another code than 0, and what each sets in its unit, by its place there. */
struct packer {
    uint8x16_t value[3], bits[3];
};

static struct packer packer_of(const struct table_form *table)
{
    struct packer packer;
    int found = 0;
    memset(&packer, 0, sizeof packer);
    for (int byte = 0; byte < 256 && found < 3; byte++) {
        uint32_t code = table->code_of[byte];
        if (!code)
            continue;
        /* Bits 0-3 of a unit are the low bits of codes, bits 4-7 the high ones. */
        uint32_t bits = (code & 1) * 0x08040201u | (code >> 1) * 0x80402010u;
        packer.value[found] = vdupq_n_u8((uint8_t)byte);
        packer.bits[found++] = vreinterpretq_u8_u32(vdupq_n_u32(bits));
    }
    return packer;
}

/* What 16 inputs set in their units. */
INLINE uint8x16_t bits_of(const struct packer *packer, const uint8_t *bytes)
{
    uint8x16_t given = vld1q_u8(bytes), bits = vdupq_n_u8(0);
    UNROLLED for (int i = 0; i < 3; i++) {
        uint8x16_t is = vceqq_u8(given, packer->value[i]);
        bits = vorrq_u8(bits, vandq_u8(is, packer->bits[i]));
    }
    return bits;
}

/* Places in the table of the units of 32 inputs. */
INLINE void eight_places(const struct packer *packer, const uint8_t *bytes, int shift, uint16_t *places)
{
    uint8x16_t pairs = vpaddq_u8(bits_of(packer, bytes), bits_of(packer, bytes + 16));
    uint16x8_t units = vmovl_u8(vget_low_u8(vpaddq_u8(pairs, pairs)));
    vst1q_u16(places, vshlq_u16(units, vdupq_n_s16((int16_t)shift)));
}

#include "units.h"

/* Sums of 16 bits of the outputs in the low bytes of lanes plus 256 x those in the high bytes, and
 * of the latter alone. */
struct halves {
    uint16x8_t both, high;
};

typedef const uint8_t (*entries)[16];

/* Adds the entries of a table for a row of 32 signs, or for the rows of two planes. Compilers would
 * move loads ahead, and then spill the sums. */
INLINE void look_up(entries table, const uint8x16_t *signs, uint8x16_t *sum)
{
    uint8x16_t all, found;
    __asm__("ldr %q0, %4\n\t"
            "tbl %1.16b, {%0.16b}, %5.16b\n\t"
            "tbl %0.16b, {%0.16b}, %6.16b\n\t"
            "add %2.16b, %2.16b, %1.16b\n\t"
            "add %3.16b, %3.16b, %0.16b"
            : "=&w"(all), "=&w"(found), "+w"(sum[0]), "+w"(sum[1])
            : "m"(*table), "w"(signs[0]), "w"(signs[1]));
}

INLINE void look_up_both(entries table, const uint8x16_t *signs, uint8x16_t *first, uint8x16_t *second)
{
    uint8x16_t all, found, other;
    __asm__("ldr %q0, %7\n\t"
            "tbl %1.16b, {%0.16b}, %8.16b\n\t"
            "tbl %2.16b, {%0.16b}, %9.16b\n\t"
            "add %3.16b, %3.16b, %1.16b\n\t"
            "add %4.16b, %4.16b, %2.16b\n\t"
            "tbl %1.16b, {%0.16b}, %10.16b\n\t"
            "tbl %0.16b, {%0.16b}, %11.16b\n\t"
            "add %5.16b, %5.16b, %1.16b\n\t"
            "add %6.16b, %6.16b, %0.16b"
            : "=&w"(all), "=&w"(found), "=&w"(other), "+w"(first[0]), "+w"(first[1]),
              "+w"(second[0]), "+w"(second[1])
            : "m"(*table), "w"(signs[0]), "w"(signs[1]), "w"(signs[2]), "w"(signs[3]));
}

/* Adds what tables say of a run of units; planes of kernels and of inputs are kp and ip. Sums are
 * [pixels, kp, ip, 2]. */
INLINE void table_run(const struct patch *patch, size_t offset, const uint8_t *kernel,
                      const int pixels, const int kp, const int ip, struct halves *totals)
{
    const uint8_t *table = patch->one->table->sums;
    const int chunk = patch->one->table->chunk, units = patch->one->run;
    const uint16_t *x[PIXELS];
    UNROLLED for (int i = 0; i < pixels; i++)
        x[i] = (const uint16_t *)(const void *)patch->window[i] + offset;
    for (int from = 0; from < units; from += chunk) {
        int to = lesser(from + chunk, units);
        uint8x16_t sums[HELD];
        UNROLLED for (int i = 0; i < pixels * kp * ip * 2; i++)
            sums[i] = vdupq_n_u8(0);
        for (int u = from; u < to; u++, kernel += kp * TABLE_LANES) {
            uint8x16_t signs[2 * PLANES];
            UNROLLED for (int p = 0; p < 2 * kp; p++)
                signs[p] = vld1q_u8(kernel + 16 * p);
            UNROLLED for (int i = 0; i < pixels; i++) {
                const uint8_t *unit = table + x[i][u];
                UNROLLED for (int q = 0; q < ip; q++) {
                    entries entry = (entries)(unit + 16 * q);
                    uint8x16_t *sum = &sums[(i * kp * ip + q) * 2];
                    if (kp == 2)
                        look_up_both(entry, signs, sum, sum + 2 * ip);
                    else
                        look_up(entry, signs, sum);
                }
            }
            IN_ORDER
        }
        UNROLLED for (int i = 0; i < pixels * kp * ip * 2; i++) {
            uint16x8_t pairs = vreinterpretq_u16_u8(sums[i]);
            totals[i].both = vaddq_u16(totals[i].both, pairs);
            totals[i].high = vsraq_n_u16(totals[i].high, pairs, 8);
        }
        /* Totals stay in memory: there is no register left for them. */
        IN_ORDER
    }
}

/* Eight outputs of 32 bits from sums by planes, the place of whose first factor is `at`. */
INLINE void recombine(const struct patch *patch, const struct halves *totals, const bool is_high,
                      size_t at, int32_t sum, const int kp, const int ip, float32x4_t *values)
{
    const struct table_form *table = patch->one->table;
    int16x8_t bias = vdupq_n_s16((int16_t)(table->bias * patch->one->segments * patch->one->run));
    int32x4_t low = vdupq_n_s32(0), high = low;
    UNROLLED for (int p = 0; p < kp; p++) {
        int32x4_t first = vdupq_n_s32(0), last = first;
        UNROLLED for (int q = 0; q < ip; q++) {
            const struct halves *total = &totals[(p * ip + q) * 2];
            uint16x8_t plane = total->high;
            if (!is_high)
                plane = vsubq_u16(total->both, vshlq_n_u16(total->high, 8));
            int16x8_t number = vsubq_s16(vreinterpretq_s16_u16(plane), bias);
            first = vmlal_n_s16(first, vget_low_s16(number), (int16_t)table->scale[q]);
            last = vmlal_high_n_s16(last, number, (int16_t)table->scale[q]);
        }
        low = vmlaq_s32(low, first, vld1q_s32(table->factor[p] + at));
        high = vmlaq_s32(high, last, vld1q_s32(table->factor[p] + at + 4));
    }
    if (table->constant) {
        low = vmlaq_n_s32(low, vld1q_s32(table->constant + at), sum);
        high = vmlaq_n_s32(high, vld1q_s32(table->constant + at + 4), sum);
    }
    values[0] = vcvtq_f32_s32(vshrq_n_s32(low, 1));
    values[1] = vcvtq_f32_s32(vshrq_n_s32(high, 1));
}

/* 32 outputs of `pixels` windows. */
INLINE void table_block(const struct patch *patch, const int pixels, const int kp, const int ip)
{
    const struct convolution *one = patch->one;
    const uint8_t *kernel = patch->kernel;
    struct halves totals[HELD];
    UNROLLED for (int i = 0; i < pixels * kp * ip * 2; i++)
        totals[i].both = totals[i].high = vdupq_n_u16(0);
    __asm__ volatile("" ::"r"(totals) : "memory");
    for (int s = 0; s < one->segments; s++) {
        table_run(patch, (size_t)one->offsets[s], kernel, pixels, kp, ip, totals);
        kernel += (size_t)one->run * (size_t)(kp * TABLE_LANES);
    }
    for (int i = 0; i < patch->count; i++) {
        const struct halves *total = totals + i * kp * ip * 2;
        float32x4_t values[8];
        int32_t sum = one->table->constant ? window_sum(one, patch->window[i]) : 0;
        size_t at = patch->first;
        recombine(patch, total, false, at, sum, kp, ip, values);
        recombine(patch, total + 1, false, at + 8, sum, kp, ip, values + 2);
        recombine(patch, total, true, at + 16, sum, kp, ip, values + 4);
        recombine(patch, total + 1, true, at + 24, sum, kp, ip, values + 6);
        put(patch, i, values, 8);
    }
}

#endif
