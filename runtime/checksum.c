/* Checksums, with carry-less products where the processor has them. */
#include "bytes.h"
#include "cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static uint32_t remainder_of(uint32_t byte)
{
    for (int bit = 0; bit < 8; bit++)
        byte = byte >> 1 ^ (byte & 1 ? 0xEDB88320u : 0);
    return byte;
}

/* Goes on with a sum, eight bytes at a time by tables of their remainders (slicing by 8). */
static uint32_t add_sliced(uint32_t sum, const uint8_t *bytes, size_t size)
{
    uint32_t table[8][256];
    for (uint32_t i = 0; i < 256; i++)
        table[0][i] = remainder_of(i);
    for (int k = 1; k < 8; k++) {
        for (uint32_t i = 0; i < 256; i++)
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
    }
    for (; size >= 8; size -= 8, bytes += 8) {
        uint32_t low = u32_at(bytes) ^ sum, high = u32_at(bytes + 4);
        sum = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^
              table[4][low >> 24] ^ table[3][high & 255] ^ table[2][high >> 8 & 255] ^
              table[1][high >> 16 & 255] ^ table[0][high >> 24];
    }
    for (; size; size--, bytes++)
        sum = sum >> 8 ^ table[0][(sum ^ *bytes) & 255];
    return sum;
}

#if defined(__x86_64__)
enum { FOLDED = 4, VECTOR = 16 };

#define PRODUCTS __attribute__((target("pclmul,sse4.1")))

PRODUCTS static __m128i vector_at(const uint8_t *bytes)
{
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

/* What stands `powers` bits before `next`, moved there and added. */
PRODUCTS static __m128i folded(__m128i sum, __m128i powers, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(sum, powers, 0x00);
    __m128i high = _mm_clmulepi64_si128(sum, powers, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* Folds whole blocks of 64 bytes into 16 that have the same remainder. Source of the method and of
 * the remainders of powers of x: Gopal et al., Fast CRC Computation for Generic Polynomials Using
 * PCLMULQDQ Instruction, Intel 2009. */
PRODUCTS static void fold(uint32_t sum, const uint8_t *bytes, size_t size, uint8_t last[VECTOR])
{
    const __m128i by_four = _mm_set_epi64x(0x01C6E41596, 0x0154442BD4);
    const __m128i by_one = _mm_set_epi64x(0x00CCAA009E, 0x01751997D0);
    __m128i sums[FOLDED];
    for (int i = 0; i < FOLDED; i++)
        sums[i] = vector_at(bytes + VECTOR * i);
    sums[0] = _mm_xor_si128(sums[0], _mm_cvtsi32_si128((int)sum));
    for (size_t at = FOLDED * VECTOR; at < size; at += FOLDED * VECTOR) {
        for (int i = 0; i < FOLDED; i++)
            sums[i] = folded(sums[i], by_four, vector_at(bytes + at + VECTOR * (size_t)i));
    }
    for (int i = 1; i < FOLDED; i++)
        sums[i] = folded(sums[i - 1], by_one, sums[i]);
    _mm_storeu_si128((__m128i *)(void *)last, sums[FOLDED - 1]);
}
#endif

uint32_t checksum(const uint8_t *bytes, size_t size)
{
    uint32_t sum = 0xFFFFFFFF;
#if defined(__x86_64__)
    size_t whole = size / (FOLDED * VECTOR) * (FOLDED * VECTOR);
    if (whole && cpu_features() & HAS_CARRY_LESS) {
        uint8_t last[VECTOR];
        fold(sum, bytes, whole, last);
        sum = add_sliced(0, last, VECTOR);
        bytes += whole;
        size -= whole;
    }
#endif
    return ~add_sliced(sum, bytes, size);
}
