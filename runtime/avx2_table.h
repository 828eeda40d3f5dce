/* The form BY_TABLE for AVX2: 32 outputs, and 3 or 6 pixels, at once. */
#ifndef AVX2_TABLE_H
#define AVX2_TABLE_H

#include <immintrin.h>

#include "elements.h"
#include "windows.h"

/* Outputs of a block, and pixels whose sums are held in registers. */
enum { LANES = 16, PIXELS = 6, TABLE_LANES = 32 };

/* What a block of outputs of some pixels is computed from and where it goes. */
struct patch {
    const struct convolution *one;
    const uint8_t *window[PIXELS]; /* of a group */
    float *out[PIXELS];
    int outputs; /* that there are */
};

/* Stores the numbers of the outputs that there are. */
INLINE void put(const struct patch *patch, int pixel, const __m256 *values, int vectors)
{
    if (patch->outputs >= 8 * vectors) {
        for (int i = 0; i < vectors; i++)
            _mm256_storeu_ps(patch->out[pixel] + 8 * i, values[i]);
        return;
    }
    float room[TABLE_LANES];
    for (int i = 0; i < vectors; i++)
        _mm256_storeu_ps(room + 8 * i, values[i]);
    memcpy(patch->out[pixel], room, (size_t)patch->outputs * sizeof *room);
}

/* Bits of the codes of 32 whole numbers: of each, which of three bytes it is, as two bits. */
struct packer {
    __m256i value[3], low[3], high[3];
};

/* Codes of bytes by comparing with those that have another code than 0. */
static struct packer packer_of(const struct table_form *table)
{
    struct packer packer;
    int found = 0;
    memset(&packer, 0, sizeof packer);
    for (int byte = 0; byte < 256 && found < 3; byte++) {
        if (!table->code_of[byte])
            continue;
        packer.value[found] = _mm256_set1_epi8((char)byte);
        packer.low[found] = _mm256_set1_epi8((char)(table->code_of[byte] & 1));
        packer.high[found++] = _mm256_set1_epi8((char)(table->code_of[byte] >> 1));
    }
    return packer;
}

/* Units of 32 inputs, each in 32 bits: four bits of one plane. */
INLINE __m256i nibbles(__m256i bits)
{
    __m256i pairs = _mm256_maddubs_epi16(bits, _mm256_set1_epi16(0x0201));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00040001));
}

INLINE __m256i units_of(const struct packer *packer, __m256i bytes)
{
    __m256i low = _mm256_setzero_si256(), high = low;
    UNROLLED for (int i = 0; i < 3; i++) {
        __m256i is = _mm256_cmpeq_epi8(bytes, packer->value[i]);
        low = _mm256_or_si256(low, _mm256_and_si256(is, packer->low[i]));
        high = _mm256_or_si256(high, _mm256_and_si256(is, packer->high[i]));
    }
    return _mm256_or_si256(nibbles(low), _mm256_slli_epi32(nibbles(high), 4));
}

/* Places in the table of the units of 32 inputs. */
INLINE void eight_places(const struct packer *packer, const uint8_t *bytes, int shift, uint16_t *places)
{
    __m256i given = _mm256_loadu_si256((const __m256i *)(const void *)bytes);
    __m256i units = _mm256_slli_epi32(units_of(packer, given), shift);
    __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(units, units), 0x08);
    _mm_storeu_si128((__m128i *)(void *)places, _mm256_castsi256_si128(both));
}

#include "units.h"

/* Sums of 16 bits of the outputs in the low bytes of lanes plus 256 x those in the high bytes, and
 * of the latter alone. */
struct halves {
    __m256i both, high;
};

/* Sixteen bytes, in both halves of a register. */
typedef const uint8_t (*entries)[16];

/* Adds the entries of a table for one or two rows of signs. Compilers would move loads ahead, and
 * then spill the sums that fill the registers. */
INLINE void look_up(entries table, __m256i signs, __m256i *sum)
{
    __m256i found;
    __asm__ volatile("vbroadcasti128 %2, %0\n\t"
                     "vpshufb %3, %0, %0\n\t"
                     "vpaddb %0, %1, %1"
                     : "=&x"(found), "+x"(*sum)
                     : "m"(*table), "x"(signs));
}

INLINE void look_up_both(entries table, const __m256i *signs, __m256i *first, __m256i *second)
{
    __m256i all, found;
    __asm__ volatile("vbroadcasti128 %4, %0\n\t"
                     "vpshufb %5, %0, %1\n\t"
                     "vpaddb %1, %2, %2\n\t"
                     "vpshufb %6, %0, %0\n\t"
                     "vpaddb %0, %3, %3"
                     : "=&x"(all), "=&x"(found), "+x"(*first), "+x"(*second)
                     : "m"(*table), "x"(signs[0]), "x"(signs[1]));
}

/* Adds what tables say of a run of units; planes of kernels and of inputs are kp and ip. */
INLINE void table_run(const struct patch *patch, size_t offset, int units, const uint8_t *kernel,
                      const int pixels, const int kp, const int ip, struct halves *totals)
{
    const uint8_t *table = patch->one->table->sums;
    const int chunk = patch->one->table->chunk;
    const uint16_t *x[PIXELS];
    UNROLLED for (int i = 0; i < pixels; i++)
        x[i] = (const uint16_t *)(const void *)patch->window[i] + offset;
    for (int from = 0; from < units; from += chunk) {
        int to = lesser(from + chunk, units);
        __m256i sums[12];
        UNROLLED for (int i = 0; i < pixels * kp * ip; i++)
            sums[i] = _mm256_setzero_si256();
        for (int u = from; u < to; u++, kernel += kp * TABLE_LANES) {
            __m256i signs[PLANES];
            UNROLLED for (int p = 0; p < kp; p++)
                signs[p] = _mm256_load_si256((const __m256i *)(const void *)(kernel + p * TABLE_LANES));
            UNROLLED for (int i = 0; i < pixels; i++) {
                const uint8_t *unit = table + x[i][u];
                UNROLLED for (int q = 0; q < ip; q++) {
                    entries entry = (entries)(unit + 16 * q);
                    __m256i *sum = &sums[i * kp * ip + q];
                    if (kp == 2)
                        look_up_both(entry, signs, sum, sum + ip);
                    else
                        look_up(entry, signs[0], sum);
                }
            }
        }
        UNROLLED for (int i = 0; i < pixels * kp * ip; i++) {
            totals[i].both = _mm256_add_epi16(totals[i].both, sums[i]);
            totals[i].high = _mm256_add_epi16(totals[i].high, _mm256_srli_epi16(sums[i], 8));
        }
        /* Totals stay in memory: there is no register left for them. */
        __asm__ volatile("" ::: "memory");
    }
}

/* 16 numbers of 16 bits times a scale, by planes of the input, as 32 bits: 0-3, 8-11 and 4-7, 12-15. */
INLINE void scaled(const struct table_form *table, const __m256i *planes, const int ip, __m256i *low,
                   __m256i *high)
{
    __m256i second = ip == 2 ? planes[1] : _mm256_setzero_si256();
    int pair = (int)((uint32_t)table->scale[0] | (uint32_t)table->scale[1] << 16);
    __m256i scales = _mm256_set1_epi32(pair);
    *low = _mm256_madd_epi16(_mm256_unpacklo_epi16(planes[0], second), scales);
    *high = _mm256_madd_epi16(_mm256_unpackhi_epi16(planes[0], second), scales);
}

/* Outputs of 32 bits from sums by planes: 16 of one half of a block, the place of whose first factor
 * is `at`. */
INLINE void recombine(const struct table_form *table, const struct halves *totals, bool is_high,
                      size_t at, int32_t sum, __m256i bias, const int kp, const int ip,
                      __m256 *values)
{
    __m256i low = _mm256_setzero_si256(), high = low, given = _mm256_set1_epi32(sum);
    UNROLLED for (int p = 0; p < kp; p++) {
        __m256i planes[PLANES], a, b;
        UNROLLED for (int q = 0; q < ip; q++) {
            const struct halves *total = &totals[p * ip + q];
            planes[q] = is_high ? total->high
                                : _mm256_sub_epi16(total->both, _mm256_slli_epi16(total->high, 8));
            planes[q] = _mm256_sub_epi16(planes[q], bias);
        }
        scaled(table, planes, ip, &a, &b);
        __m256i first = _mm256_permute2x128_si256(a, b, 0x20);
        __m256i last = _mm256_permute2x128_si256(a, b, 0x31);
        const __m256i *factor = (const __m256i *)(const void *)(table->factor[p] + at);
        low = _mm256_add_epi32(low, _mm256_mullo_epi32(first, _mm256_load_si256(factor)));
        high = _mm256_add_epi32(high, _mm256_mullo_epi32(last, _mm256_load_si256(factor + 1)));
    }
    if (table->constant) {
        const __m256i *constant = (const __m256i *)(const void *)(table->constant + at);
        low = _mm256_add_epi32(low, _mm256_mullo_epi32(given, _mm256_load_si256(constant)));
        high = _mm256_add_epi32(high, _mm256_mullo_epi32(given, _mm256_load_si256(constant + 1)));
    }
    values[0] = _mm256_cvtepi32_ps(_mm256_srai_epi32(low, 1));
    values[1] = _mm256_cvtepi32_ps(_mm256_srai_epi32(high, 1));
}

/* 32 outputs of `pixels` windows; `at` is the place of their first factor. */
INLINE void table_block(const struct patch *patch, const uint8_t *kernel, size_t at, int count,
                        const int pixels, const int kp, const int ip)
{
    const struct convolution *one = patch->one;
    struct halves totals[12];
    UNROLLED for (int i = 0; i < pixels * kp * ip; i++)
        totals[i].both = totals[i].high = _mm256_setzero_si256();
    __asm__ volatile("" ::"r"(totals) : "memory");
    for (int s = 0; s < one->segments; s++) {
        table_run(patch, (size_t)one->offsets[s], one->run, kernel, pixels, kp, ip, totals);
        kernel += (size_t)one->run * (size_t)(kp * TABLE_LANES);
    }
    __m256i bias = _mm256_set1_epi16((short)(one->table->bias * one->segments * one->run));
    for (int i = 0; i < count; i++) {
        __m256 values[4];
        int32_t sum = one->table->constant ? window_sum(one, patch->window[i]) : 0;
        recombine(one->table, totals + i * kp * ip, false, at, sum, bias, kp, ip, values);
        recombine(one->table, totals + i * kp * ip, true, at + 16, sum, bias, kp, ip, values + 2);
        put(patch, i, values, 4);
    }
}

/* Rows of signs: outputs of the two halves by turns, of each the bits of four inputs. */
static void table_signs(const uint64_t bits[4], uint8_t *lanes)
{
    /* Which byte of 32 bits has the output of a lane, and which of its bits that is. */
    const __m256i place = _mm256_setr_epi64x(0x0200020002000200, 0x0200020002000200,
                                             0x0301030103010301, 0x0301030103010301);
    const __m256i bit = _mm256_setr_epi64x(0x0808040402020101, (long long)0x8080404020201010,
                                           0x0808040402020101, (long long)0x8080404020201010);
    __m256i found = _mm256_setzero_si256();
    UNROLLED for (int i = 0; i < 4; i++) {
        __m256i given = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(uint32_t)bits[i]), place);
        __m256i is = _mm256_cmpeq_epi8(_mm256_and_si256(given, bit), bit);
        found = _mm256_or_si256(found, _mm256_and_si256(is, _mm256_set1_epi8((char)(1 << i))));
    }
    _mm256_storeu_si256((__m256i *)(void *)lanes, found);
}

#endif
