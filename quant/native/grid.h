// Sums of bases, sorted: those of all lanes at once, by a network of comparisons.
#pragma once

#include "rows.h"

namespace {

// Puts two sums of each lane in order: of equal ones the larger code comes first. Says which
// lanes had to change.
inline M put_in_order(F* sums, I* codes, int first, int second) {
  const F a = sums[first], b = sums[second];
  const I code_a = codes[first], code_b = codes[second];
  const M equal = both(at_least(a, b), at_most(a, b));
  const M change = either(above(a, b), both(equal, below(code_a, code_b)));
  sums[first] = choose(change, b, a);
  sums[second] = choose(change, a, b);
  codes[first] = choose(change, code_b, code_a);
  codes[second] = choose(change, code_a, code_b);
  return change;
}

// Sums of a basis, of which each vector doubles their number: half of them as they were, sorted,
// and half with the vector, in reverse, are merged.
inline void sort_sums(const Basis& call, int64_t first_channel, int lanes, F* sums, I* codes) {
  sums[0] = set(0.0f);
  codes[0] = set_bits(0);
  int count = 1;
  for (int bit = 0; bit < call.bits; ++bit, count *= 2) {
    float own[W] = {};
    const float* row = call.values + bit * call.channels + first_channel;
    std::memcpy(own, row, lanes * sizeof(float));
    const F vector = load(own);
    const F unset = vector * set(call.low);
    for (int k = 0; k < count; ++k) {
      sums[2 * count - 1 - k] = sums[k] + vector;
      codes[2 * count - 1 - k] = add_bits(codes[k], count);
      sums[k] = sums[k] + unset;
    }
    for (int step = count; step > 0; step /= 2) {
      for (int k = 0; k < 2 * count; ++k) {
        if (!(k & step)) put_in_order(sums, codes, k, k + step);
      }
    }
  }
  // Sums that rounding made equal may have to change places.
  M changed;
  do {
    changed = M{};
    for (int begin = 0; begin < 2; ++begin) {
      for (int k = begin; k + 1 < count; k += 2) {
        changed = either(changed, put_in_order(sums, codes, k, k + 1));
      }
    }
  } while (any(changed));
}

// A row of the first lanes.
inline void store_lanes(float* to, F x, int lanes) {
  float all[W];
  store(all, x);
  std::memcpy(to, all, lanes * sizeof(float));
}

void grid(const Basis& call, int64_t first_channel, float* levels, float* thresholds,
          int32_t* codes) {
  const int64_t rest = call.channels - first_channel;
  const int lanes = rest < W ? int(rest) : W;
  const int count = 1 << call.bits;
  F sums[256];
  I numbers[256];
  sort_sums(call, first_channel, lanes, sums, numbers);
  const F half = set(0.5f);
  for (int k = 0; k < count; ++k) {
    const int64_t place = k * call.channels + first_channel;
    store_lanes(levels + place, sums[k], lanes);
    if (k + 1 < count) store_lanes(thresholds + place, half * sums[k] + half * sums[k + 1], lanes);
    int32_t all[W];
    store_index(all, numbers[k]);
    for (int lane = 0; lane < lanes; ++lane) codes[(first_channel + lane) * count + k] = all[lane];
  }
}

}  // namespace
