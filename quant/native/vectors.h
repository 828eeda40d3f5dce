// Vectors of W float numbers, masks of as many, and what kernels do with them, for the instruction
// set that a file is compiled for: AVX-512, or what the compiler makes of vectors of eight.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

struct BFloat16 {
  uint16_t bits;
};

inline float widened(BFloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

constexpr int W = 16;
using F = __m512;
using I = __m512i;
using M = __mmask16;

inline F set(float x) { return _mm512_set1_ps(x); }
inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline F load(const BFloat16* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
inline I bits_of(F x) { return _mm512_castps_si512(x); }
inline void store(float* p, F x) { _mm512_storeu_ps(p, x); }
inline void store_bits(BFloat16* p, I high) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(high, 16)));
}
inline I add_bits(I a, int b) { return _mm512_add_epi32(a, _mm512_set1_epi32(b)); }
inline I add_bits(I a, I b) { return _mm512_add_epi32(a, b); }
inline I odd_after(I x) {
  return _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
}
inline I choose(M m, I a, I b) { return _mm512_mask_blend_epi32(m, b, a); }
inline I set_bits(int x) { return _mm512_set1_epi32(x); }
inline M above(F x, F t) { return _mm512_cmp_ps_mask(x, t, _CMP_GT_OQ); }
inline M at_least(F x, F t) { return _mm512_cmp_ps_mask(x, t, _CMP_GE_OQ); }
inline M at_most(F x, F t) { return _mm512_cmp_ps_mask(x, t, _CMP_LE_OQ); }
inline M is_nan(F x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q); }
inline M both(M a, M b) { return _kand_mask16(a, b); }
inline M either(M a, M b) { return _kor_mask16(a, b); }
inline bool any(M m) { return m != 0; }
inline M below(I a, I b) { return _mm512_cmplt_epi32_mask(a, b); }
inline F choose(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
inline F add_where(M m, F sum, F x) { return _mm512_mask_add_ps(sum, m, sum, x); }
inline F max(F x, F bound) { return _mm512_max_ps(bound, x); }
inline F min(F x, F bound) { return _mm512_min_ps(bound, x); }
inline F rounded(F x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F magnitude(F x) { return _mm512_abs_ps(x); }
inline F negated(F x) { return _mm512_xor_ps(x, set(-0.0f)); }
inline void put_mask(uint8_t* p, M m) {
  const uint16_t bits = m;
  std::memcpy(p, &bits, 2);
}
inline M get_mask(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return bits;
}
inline I lane_numbers() {
  return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
// Children of nodes of a tree, the right one where the mask is set.
inline I child(I node, M m) {
  const I doubled = _mm512_add_epi32(node, node);
  return _mm512_mask_add_epi32(doubled, m, doubled, _mm512_set1_epi32(1));
}
inline I multiplied(I index, int by) { return _mm512_mullo_epi32(index, set_bits(by)); }
inline F gathered(const float* table, I index) { return _mm512_i32gather_ps(index, table, 4); }
inline void store_index(int32_t* p, I x) { _mm512_storeu_si512(p, x); }
// Lane i of row k becomes lane k of row i: pairs of rows, then of these, then of their quarters.
inline void transpose(F (&rows)[16]) {
  F pairs[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      const __m512d first = _mm512_castps_pd(pairs[i + j]);
      const __m512d second = _mm512_castps_pd(pairs[i + j + 2]);
      rows[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(first, second));
      rows[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(first, second));
    }
  }
  for (int j = 0; j < 4; ++j) {
    const F a = _mm512_shuffle_f32x4(rows[j], rows[4 + j], 0x88);
    const F b = _mm512_shuffle_f32x4(rows[j], rows[4 + j], 0xdd);
    const F c = _mm512_shuffle_f32x4(rows[8 + j], rows[12 + j], 0x88);
    const F d = _mm512_shuffle_f32x4(rows[8 + j], rows[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_f32x4(a, c, 0x88);
    rows[8 + j] = _mm512_shuffle_f32x4(a, c, 0xdd);
    rows[4 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
    rows[12 + j] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

// Elements of a table of 2**bits, from registers while it has at most 128.
inline F from_32(const float* table, I index) {
  return _mm512_permutex2var_ps(load(table), index, load(table + 16));
}
inline F from_64(const float* table, I index) {
  const M upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
  return choose(upper, from_32(table + 32, index), from_32(table, index));
}
inline F looked_up(const float* table, int bits, I index) {
  if (bits <= 4) return _mm512_permutexvar_ps(index, load(table));
  if (bits == 5) return from_32(table, index);
  if (bits == 6) return from_64(table, index);
  if (bits > 7) return gathered(table, index);
  const M upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(64));
  return choose(upper, from_64(table + 64, index), from_64(table, index));
}

#else

constexpr int W = 8;
typedef float F __attribute__((vector_size(32)));
typedef int32_t I __attribute__((vector_size(32)));
typedef uint32_t U __attribute__((vector_size(32)));  // which may overflow
using M = I;

inline F set(float x) { return F{x, x, x, x, x, x, x, x}; }
inline I set_bits(int x) { return I{x, x, x, x, x, x, x, x}; }
inline F load(const float* p) {
  F x;
  std::memcpy(&x, p, 32);
  return x;
}
inline F load(const BFloat16* p) {
  float x[W];
  for (int i = 0; i < W; ++i) x[i] = widened(p[i]);
  return load(x);
}
inline I bits_of(F x) { return reinterpret_cast<I>(x); }
inline F of_bits(I x) { return reinterpret_cast<F>(x); }
inline void store(float* p, F x) { std::memcpy(p, &x, 32); }
inline void store_bits(BFloat16* p, I high) {
  for (int i = 0; i < W; ++i) p[i].bits = uint16_t(uint32_t(high[i]) >> 16);
}
inline I add_bits(I a, I b) { return I(U(a) + U(b)); }
inline I add_bits(I a, int b) { return add_bits(a, set_bits(b)); }
inline I odd_after(I x) { return (x >> 16) & 1; }
inline M above(F x, F t) { return x > t; }
inline M at_least(F x, F t) { return x >= t; }
inline M at_most(F x, F t) { return x <= t; }
inline M is_nan(F x) { return x != x; }
inline M both(M a, M b) { return a & b; }
inline M either(M a, M b) { return a | b; }
inline bool any(M m) {
  int32_t found = 0;
  for (int i = 0; i < W; ++i) found |= m[i];
  return found != 0;
}
inline M below(I a, I b) { return a < b; }
inline I choose(M m, I a, I b) { return (a & m) | (b & ~m); }
inline F choose(M m, F a, F b) { return of_bits(choose(m, bits_of(a), bits_of(b))); }
inline F add_where(M m, F sum, F x) { return sum + of_bits(bits_of(x) & m); }
inline F max(F x, F bound) { return choose(bound > x, bound, x); }
inline F min(F x, F bound) { return choose(bound < x, bound, x); }
inline F magnitude(F x) { return of_bits(bits_of(x) & 0x7fffffff); }
inline F negated(F x) { return of_bits(bits_of(x) ^ int32_t(0x80000000)); }
#if defined(__AVX2__)
inline F rounded(F x) { return F(_mm256_round_ps(__m256(x), 8)); }
inline void put_mask(uint8_t* p, M m) { *p = uint8_t(_mm256_movemask_ps(__m256(m))); }
inline F gathered(const float* table, I index) {
  return F(_mm256_i32gather_ps(table, __m256i(index), 4));
}
#else
// Of values below 2**22, as clipped ones are; the sum has no room for a fraction.
inline F rounded(F x) {
  const F large = set(12582912.0f);
  const F whole = (x + large) - large;
  return of_bits(bits_of(whole) | (bits_of(x) & int32_t(0x80000000)));
}
inline void put_mask(uint8_t* p, M m) {
  unsigned bits = 0;
  for (int i = 0; i < W; ++i) bits |= unsigned(m[i] & 1) << i;
  *p = uint8_t(bits);
}
inline F gathered(const float* table, I index) {
  float x[W];
  for (int i = 0; i < W; ++i) x[i] = table[index[i]];
  return load(x);
}
#endif
inline M get_mask(const uint8_t* p) {
  const I bit = {1, 2, 4, 8, 16, 32, 64, 128};
  return (set_bits(*p) & bit) == bit;
}
inline I lane_numbers() { return I{0, 1, 2, 3, 4, 5, 6, 7}; }
inline I child(I node, M m) { return node + node - m; }
inline I multiplied(I index, int by) { return index * by; }
inline void store_index(int32_t* p, I x) { std::memcpy(p, &x, 32); }
inline void transpose(F (&rows)[W]) {
  float x[W][W];
  for (int i = 0; i < W; ++i) store(x[i], rows[i]);
  for (int i = 0; i < W; ++i) {
    for (int k = 0; k < W; ++k) rows[i][k] = x[k][i];
  }
}
inline F looked_up(const float* table, int bits, I index) {
#if defined(__AVX2__)
  if (bits <= 3) return F(_mm256_permutevar8x32_ps(__m256(load(table)), __m256i(index)));
#endif
  (void)bits;
  return gathered(table, index);
}

#endif

// Values as they are, of the type that is stored; of a float number the nearest BFloat16, a tie
// the even one, NaN a quiet one.
inline void store(BFloat16* p, F x) {
  const I bits = bits_of(x);
  const I up = add_bits(add_bits(bits, 0x7fff), odd_after(bits));
  store_bits(p, choose(is_nan(x), set_bits(0x7fc00000), up));
}

// Sums of the lanes of a few rows go to double precision: float numbers add up exactly enough.
struct Sum {
  F lanes = set(0.0f);
  void flush(double* total) {
    float x[W];
    store(x, lanes);
    for (int i = 0; i < W; ++i) total[i] += x[i];
    lanes = set(0.0f);
  }
};

}  // namespace
