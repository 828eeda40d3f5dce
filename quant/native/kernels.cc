// Kernels for the instruction set that this file is compiled for, once each. Nothing here may be
// shared between these: no templates of the standard library.
#include "kernels.h"

#include <cmath>
#include <cstdlib>

#include "vectors.h"

#ifndef KERNELS
#error "KERNELS names the set of kernels"
#endif

namespace {

// Rows whose lanes add up as float numbers.
constexpr int64_t kFlush = 64;
// More rows count up to what a float number can count, each value of a lane in a cell of its own.
constexpr int64_t kLongFlush = 1024;
// Thresholds that are compared with one by one; more are searched.
constexpr int kCompared = W == 16 ? 15 : 7;

// Memory for the time of a call.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t size)
      : data_(static_cast<T*>(std::aligned_alloc(64, (size * sizeof(T) + 63) / 64 * 64))) {
    std::memset(static_cast<void*>(data_), 0, size * sizeof(T));
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  operator T*() { return data_; }

 private:
  T* data_;
};

// Rows of W values, or of fewer, then padded and copied.
struct Rows {
  int64_t count;
  int64_t stride;
  int lanes;
};

inline int lanes_of(int64_t channels, const Part& part) {
  const int64_t rest = channels - part.first_channel;
  return rest < W ? int(rest) : W;
}

template <class T>
void copy_in(const Rows& rows, const T* from, T* to) {
  for (int64_t r = 0; r < rows.count; ++r) {
    std::memcpy(to + r * W, from + r * rows.stride, rows.lanes * sizeof(T));
  }
}

template <class T>
void copy_out(const Rows& rows, const T* from, T* to) {
  for (int64_t r = 0; r < rows.count; ++r) {
    std::memcpy(to + r * rows.stride, from + r * W, rows.lanes * sizeof(T));
  }
}

inline int bits_for(int thresholds) {
  int bits = 1;
  while ((1 << bits) - 1 < thresholds) ++bits;
  return bits;
}

// Thresholds and levels of W lanes, padded to a power of two of levels; as a tree, too.
class Tables {
 public:
  Tables(const Encoding& call, const Part& part)
      : shared(call.channels == 1),
        bits(bits_for(call.count)),
        levels_(int64_t(W) << bits),
        thresholds_(int64_t(W) << bits),
        tree_(shared ? int64_t(bits) << (bits < 4 ? 4 : bits) : int64_t(W) << bits),
        flat_(shared ? 16 + (int64_t(1) << bits) : 16) {
    const int lanes = shared ? W : lanes_of(call.channels, part);
    for (int k = 0; k < 1 << bits; ++k) {
      for (int lane = 0; lane < lanes; ++lane) {
        const int64_t channel = shared ? 0 : part.first_channel + lane;
        const int level = k > call.count ? call.count : k;
        thresholds_[k * W + lane] =
            k < call.count ? call.thresholds[k * call.channels + channel] : INFINITY;
        levels_[k * W + lane] =
            call.levels ? call.levels[level * call.channels + channel] : 0.0f;
      }
    }
    if (call.count > kCompared || !call.levels) grow();
  }

  const float* thresholds() const { return const_cast<Tables*>(this)->thresholds_; }
  const float* levels() const { return const_cast<Tables*>(this)->levels_; }

  // The number of thresholds below each value of a lane.
  inline I cells(F x) const {
    const float* tree = const_cast<Tables*>(this)->tree_;
    if (shared) {
      I place = set_bits(0);
      for (int depth = 0; depth < bits; ++depth) {
        const F threshold = looked_up(tree + depth * width(), depth, place);
        place = child(place, above(x, threshold));
      }
      return place;
    }
    I node = set_bits(1);
    for (int depth = 0; depth < bits; ++depth) {
      const I index = add_bits(scaled(node, W == 16 ? 4 : 3), lane_numbers());
      node = child(node, above(x, gathered(tree, index)));
    }
    return add_bits(node, -(1 << bits));
  }

  inline F level(I cell) const {
    if (shared) return looked_up(const_cast<Tables*>(this)->flat_, bits, cell);
    return gathered(levels(), add_bits(scaled(cell, W == 16 ? 4 : 3), lane_numbers()));
  }

  const bool shared;
  const int bits;

 private:
  int64_t width() const { return int64_t(1) << (bits < 4 ? 4 : bits); }

  void grow() {
    for (int depth = 0; depth < bits; ++depth) {
      for (int place = 0; place < 1 << depth; ++place) {
        const int number = ((2 * place + 1) << (bits - depth - 1)) - 1;
        if (shared) {
          tree_[depth * width() + place] = thresholds_[number * W];
          continue;
        }
        float* node = tree_ + int64_t((1 << depth) + place) * W;
        std::memcpy(node, thresholds_ + number * W, W * sizeof(float));
      }
    }
    for (int k = 0; shared && k < 1 << bits; ++k) flat_[k] = levels_[k * W];
  }

  Scratch<float> levels_;
  Scratch<float> thresholds_;
  Scratch<float> tree_;
  Scratch<float> flat_;
};

// Where a gradient passes.
class Range {
 public:
  explicit Range(const Encoding& call)
      : strict_(call.inside == Inside::kPositive),
        high_(set(call.inside == Inside::kNone ? 0.0f : call.levels[call.count])),
        low_(set(-INFINITY)) {
    if (strict_) low_ = set(0.0f);
    if (call.inside == Inside::kSymmetric) low_ = negated(high_);
  }
  inline M holds(F x) const {
    return both(at_most(x, high_), strict_ ? above(x, low_) : at_least(x, low_));
  }

 private:
  bool strict_;
  F high_;
  F low_;
};

// Counts and sums by lane and level, [bits][W] each.
struct Totals {
  explicit Totals(int bits) : counts(int64_t(W) << bits), sums(int64_t(W) << bits) {}
  Scratch<double> counts;
  Scratch<double> sums;
};

template <class T, int N, bool Collect>
void compare(const Encoding& call, const Tables& tables, const T* x, T* y, uint8_t* mask,
             int64_t rows, int64_t stride, Totals& totals) {
  const float* thresholds = tables.thresholds();
  const float* levels = tables.levels();
  F threshold[N], level[N + 1];
  for (int k = 0; k < N; ++k) threshold[k] = load(thresholds + k * W);
  for (int k = 0; k <= N; ++k) level[k] = load(levels + k * W);
  const Range range(call);
  const F floor = set(call.relu ? 0.0f : -INFINITY);
  const F one = set(1.0f);
  double counts[N][W] = {}, sums[N][W] = {}, total[W] = {};
  for (int64_t begin = 0; begin < rows; begin += kFlush) {
    const int64_t end = begin + kFlush < rows ? begin + kFlush : rows;
    Sum count[N], sum[N], everything;
    for (int64_t r = begin; r < end; ++r) {
      const F value = load(x + r * stride);
      F found = level[0];
      const F counted = max(value, floor);
      for (int k = 0; k < N; ++k) {
        const M over = above(value, threshold[k]);
        found = choose(over, level[k + 1], found);
        if (Collect) {
          count[k].lanes = add_where(over, count[k].lanes, one);
          sum[k].lanes = add_where(over, sum[k].lanes, counted);
        }
      }
      if (Collect) everything.lanes = everything.lanes + counted;
      if (call.keeps_nan) found = choose(is_nan(value), value, found);
      store(y + r * stride, found);
      if (mask) put_mask(mask + r * (W / 8), range.holds(value));
    }
    if (!Collect) continue;
    everything.flush(total);
    for (int k = 0; k < N; ++k) {
      count[k].flush(counts[k]);
      sum[k].flush(sums[k]);
    }
  }
  if (!Collect) return;
  for (int lane = 0; lane < W; ++lane) {
    for (int k = 0; k <= N; ++k) {
      const double number = k ? counts[k - 1][lane] : double(rows);
      const double value = k ? sums[k - 1][lane] : total[lane];
      totals.counts[k * W + lane] += k < N ? number - counts[k][lane] : number;
      totals.sums[k * W + lane] += k < N ? value - sums[k][lane] : value;
    }
    if (std::isnan(total[lane])) {
      for (int k = 0; k <= N; ++k) totals.sums[k * W + lane] = NAN;
    }
  }
}

// Pairs of a sum and a count: a lane's values add up in cells of its own, so that no addition
// waits for the one before.
class Cells {
 public:
  explicit Cells(int bits) : bits_(bits), pairs_(int64_t(2 * W) << bits) {}

  inline void add(I cell, F value) {
    int32_t cells[W];
    float values[W];
    store_index(cells, cell);
    store(values, value);
    for (int lane = 0; lane < W; ++lane) {
      float* pair = pairs_ + 2 * ((int64_t(lane) << bits_) + cells[lane]);
      typedef float Pair __attribute__((vector_size(8)));
      Pair now;
      std::memcpy(&now, pair, 8);
      now += Pair{values[lane], 1.0f};
      std::memcpy(pair, &now, 8);
    }
  }

  void flush(Totals& totals) {
    for (int64_t lane = 0; lane < W; ++lane) {
      for (int64_t k = 0; k < 1 << bits_; ++k) {
        float* pair = pairs_ + 2 * ((lane << bits_) + k);
        totals.sums[k * W + lane] += pair[0];
        totals.counts[k * W + lane] += pair[1];
        pair[0] = pair[1] = 0.0f;
      }
    }
  }

 private:
  int bits_;
  Scratch<float> pairs_;
};

template <class T, bool Collect>
void search(const Encoding& call, const Tables& tables, const T* x, T* y, uint8_t* mask,
            int64_t rows, int64_t stride, Totals& totals) {
  const Range range(call);
  const F floor = set(call.relu ? 0.0f : -INFINITY);
  Cells cells(Collect ? tables.bits : 0);
  for (int64_t begin = 0; begin < rows; begin += kLongFlush) {
    const int64_t end = begin + kLongFlush < rows ? begin + kLongFlush : rows;
    for (int64_t r = begin; r < end; ++r) {
      const F value = load(x + r * stride);
      const I cell = tables.cells(value);
      F found = tables.level(cell);
      if (Collect) cells.add(cell, max(value, floor));
      if (call.keeps_nan) found = choose(is_nan(value), value, found);
      store(y + r * stride, found);
      if (mask) put_mask(mask + r * (W / 8), range.holds(value));
    }
    if (Collect) cells.flush(totals);
  }
  if (!Collect) return;
  // A value that is no number is in the lowest cell: then no sum is one.
  for (int lane = 0; lane < W; ++lane) {
    if (!std::isnan(totals.sums[lane])) continue;
    for (int k = 0; k < 1 << tables.bits; ++k) totals.sums[k * W + lane] = NAN;
  }
}

template <class T, bool Collect>
void encode_rows(const Encoding& call, const Tables& tables, const T* x, T* y, uint8_t* mask,
                 int64_t rows, int64_t stride, Totals& totals) {
  auto* kernel = search<T, Collect>;
  if (call.count <= kCompared) {
    if (tables.bits == 1) kernel = compare<T, 1, Collect>;
    if (tables.bits == 2) kernel = compare<T, 3, Collect>;
    if (tables.bits == 3) kernel = compare<T, 7, Collect>;
    if (tables.bits == 4) kernel = compare<T, 15, Collect>;
  }
  kernel(call, tables, x, y, mask, rows, stride, totals);
}

// Rows of fewer than W values.
template <class T, bool Collect>
void encode_padded(const Encoding& call, const Tables& tables, const Rows& rows, const T* x, T* y,
                   uint8_t* mask, Totals& totals) {
  Scratch<T> padded(rows.count * W);
  uint8_t bits[W / 8] = {};
  copy_in<T>(rows, x, padded);
  encode_rows<T, Collect>(call, tables, padded, padded, mask ? bits : nullptr, rows.count, W,
                          totals);
  copy_out<T>(rows, padded, y);
  if (mask) std::memcpy(mask, bits, (rows.lanes + 7) / 8);
}

// Adds totals of the first lanes to a table, all of them to one number where they share it.
void add_to_table(const Encoding& call, int lanes, Totals& totals, double* table) {
  const int width = call.channels == 1 ? 1 : W;
  double* sums = table + (call.count + 1) * width;
  for (int k = 0; k <= call.count; ++k) {
    for (int lane = 0; lane < lanes; ++lane) {
      const int column = width == 1 ? 0 : lane;
      table[k * width + column] += totals.counts[k * W + lane];
      sums[k * width + column] += totals.sums[k * W + lane];
    }
  }
}

template <class T, bool Collect>
void encode_part(const Encoding& call, const Part& part, const T* x, T* y, uint8_t* mask,
                 double* table) {
  const Tables tables(call, part);
  if (!tables.shared) {
    const Rows rows{part.rows, part.stride, lanes_of(call.channels, part)};
    Totals totals(tables.bits);
    if (rows.lanes == W) {
      encode_rows<T, Collect>(call, tables, x, y, mask, rows.count, rows.stride, totals);
    } else {
      encode_padded<T, Collect>(call, tables, rows, x, y, mask, totals);
    }
    if (Collect) add_to_table(call, rows.lanes, totals, table);
    return;
  }
  const int64_t whole = part.stride / W;
  const int rest = int(part.stride % W);
  Totals totals(tables.bits);
  encode_rows<T, Collect>(call, tables, x, y, mask, whole, W, totals);
  if (Collect) add_to_table(call, W, totals, table);
  if (!rest) return;
  const int64_t done = whole * W;
  Totals last(tables.bits);
  encode_padded<T, Collect>(call, tables, Rows{1, W, rest}, x + done, y + done,
                            mask ? mask + done / 8 : nullptr, last);
  if (Collect) add_to_table(call, rest, last, table);
}

template <class T>
void encode_as(const Encoding& call, const Part& part, const void* x, void* y, uint8_t* mask,
               double* table) {
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(y);
  if (call.collect) {
    encode_part<T, true>(call, part, from, to, mask, table);
  } else {
    encode_part<T, false>(call, part, from, to, mask, table);
  }
}

void encode(const Encoding& call, const Part& part, const void* x, void* y, uint8_t* mask,
            double* table) {
  if (call.bf16) {
    encode_as<BFloat16>(call, part, x, y, mask, table);
  } else {
    encode_as<float>(call, part, x, y, mask, table);
  }
}

void sums(const Encoding& call, const Part& part, const float* x, const float* values,
          double* table) {
  const Tables tables(call, part);
  Totals totals(tables.bits);
  Cells cells(tables.bits);
  const int64_t whole = part.stride / W;
  const int rest = int(part.stride % W);
  for (int64_t r = 0; r < whole; ++r) {
    cells.add(tables.cells(load(x + r * W)), load(values + r * W));
    if (r % kLongFlush == kLongFlush - 1) cells.flush(totals);
  }
  cells.flush(totals);
  for (int k = 0; k <= call.count; ++k) {
    for (int lane = 0; lane < W; ++lane) table[k] += totals.sums[k * W + lane];
  }
  for (int64_t i = whole * W; i < whole * W + rest; ++i) {
    int cell = 0;
    while (cell < call.count && x[i] > call.thresholds[cell]) ++cell;
    table[cell] += values[i];
  }
}

template <class T>
void masked_as(int64_t size, const T* upstream, const uint8_t* mask, T* y) {
  const F zero = set(0.0f);
  const int64_t whole = size / W * W;
  for (int64_t i = 0; i < whole; i += W) {
    store(y + i, choose(get_mask(mask + i / 8), load(upstream + i), zero));
  }
  for (int64_t i = whole; i < size; ++i) {
    y[i] = mask[i / 8] >> (i % 8) & 1 ? upstream[i] : T{};
  }
}

void masked(bool bf16, int64_t size, const void* upstream, const uint8_t* mask, void* y) {
  if (bf16) {
    masked_as(size, static_cast<const BFloat16*>(upstream), mask, static_cast<BFloat16*>(y));
  } else {
    masked_as(size, static_cast<const float*>(upstream), mask, static_cast<float*>(y));
  }
}

// Arithmetic of a uniform quantizer, in the order in which quant/uniform.py has it.
class Steps {
 public:
  Steps(const Uniform& call, const Part& part)
      : low_(set(call.low)), high_(set(call.high)), zero_(set(0.0f)), call_(call) {
    step_ = lanes(call.step, part);
    if (call.offset) offset_ = lanes(call.offset, part);
  }

  // NaN stays; zero has no sign.
  inline F rectified(F x) const {
    return call_.relu ? choose(at_most(x, zero_), zero_, x) : x;
  }

  inline F ratio(F x) const { return (call_.offset ? x - offset_ : x) / step_; }

  inline F clipped(F ratio) const {
    // NaN stays.
    return max(min(ratio, high_), low_);
  }

  inline F level(F clipped) const {
    const F y = rounded(clipped) * step_;
    return call_.offset ? y + offset_ : y;
  }

  inline F toward_x(F upstream, F x, F ratio, F error) const {
    F found = upstream;
    if (call_.delta != 0) found = found + extra(upstream, error);
    if (!call_.passes_all) found = choose(within(ratio, call_.passes_ends), found, zero_);
    return call_.relu ? found * choose(above(x, zero_), set(1.0f), zero_) : found;
  }

  inline F toward_step(F upstream, F ratio, F clipped, F error) const {
    F found = zero_;
    if (call_.inner) {
      found = negated(upstream) * error;
      if (call_.delta != 0) found = found - extra(upstream, error) * clipped;
    }
    return choose(within(ratio, !call_.clip_ends), found, upstream * clipped);
  }

  inline F toward_offset(F upstream, F ratio, F error) const {
    F found = zero_;
    if (call_.delta != 0) found = negated(extra(upstream, error));
    return choose(within(ratio, !call_.clip_ends), found, upstream);
  }

 private:
  F lanes(const float* numbers, const Part& part) const {
    if (call_.channels == 1) return set(numbers[0]);
    // Lanes that no channel has divide by one.
    float padded[W];
    for (int lane = 0; lane < W; ++lane) padded[lane] = 1.0f;
    std::memcpy(padded, numbers + part.first_channel,
                lanes_of(call_.channels, part) * sizeof(float));
    return load(padded);
  }

  inline F extra(F upstream, F error) const {
    return set(call_.delta) * magnitude(upstream) * error;
  }

  inline M within(F ratio, bool ends) const {
    if (ends) return both(at_least(ratio, low_), at_most(ratio, high_));
    return both(above(ratio, low_), above(high_, ratio));
  }

  F low_, high_, zero_;
  F step_ = set(1.0f), offset_ = set(0.0f);
  const Uniform& call_;
};

void uniform_rows(const Steps& steps, const float* x, float* y, int64_t rows, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const F value = steps.rectified(load(x + r * stride));
    store(y + r * stride, steps.level(steps.clipped(steps.ratio(value))));
  }
}

void uniform(const Uniform& call, const Part& part, const float* x, float* y) {
  const Steps steps(call, part);
  Rows rows{part.rows, part.stride, W};
  if (call.channels == 1) {
    const int64_t whole = part.stride / W;
    uniform_rows(steps, x, y, whole, W);
    rows = Rows{1, W, int(part.stride % W)};
    x += whole * W;
    y += whole * W;
  } else {
    rows.lanes = lanes_of(call.channels, part);
    if (rows.lanes == W) uniform_rows(steps, x, y, rows.count, rows.stride);
  }
  if (rows.lanes == 0 || rows.lanes == W) return;
  Scratch<float> padded(rows.count * W);
  copy_in<float>(rows, x, padded);
  uniform_rows(steps, padded, padded, rows.count, W);
  copy_out<float>(rows, padded, y);
}

void gradient_rows(const Steps& steps, const float* upstream, const float* x, float* y,
                   int64_t rows, int64_t stride, double* table) {
  for (int64_t begin = 0; begin < rows; begin += kFlush) {
    const int64_t end = begin + kFlush < rows ? begin + kFlush : rows;
    Sum of_step, of_offset;
    for (int64_t r = begin; r < end; ++r) {
      const F g = load(upstream + r * stride);
      const F value = steps.rectified(load(x + r * stride));
      const F ratio = steps.ratio(value);
      const F clipped = steps.clipped(ratio);
      const F error = clipped - rounded(clipped);
      of_step.lanes = of_step.lanes + steps.toward_step(g, ratio, clipped, error);
      of_offset.lanes = of_offset.lanes + steps.toward_offset(g, ratio, error);
      store(y + r * stride, steps.toward_x(g, value, ratio, error));
    }
    of_step.flush(table);
    of_offset.flush(table + W);
  }
}

void uniform_gradient(const Uniform& call, const Part& part, const float* upstream,
                      const float* x, float* y, double* table) {
  const Steps steps(call, part);
  const bool shared = call.channels == 1;
  const int width = shared ? 1 : W;
  Rows rows{part.rows, part.stride, shared ? W : lanes_of(call.channels, part)};
  Rows rest = rows;
  int64_t done = 0;
  if (shared) {
    rows = Rows{part.stride / W, W, W};
    rest = Rows{1, W, int(part.stride % W)};
    done = rows.count * W;
  }
  double totals[2 * W] = {};
  if (rows.lanes == W) {
    gradient_rows(steps, upstream, x, y, rows.count, rows.stride, totals);
  }
  if (rest.lanes && rest.lanes < W) {
    Scratch<float> gs(rest.count * W), xs(rest.count * W);
    double last[2 * W] = {};
    copy_in<float>(rest, upstream + done, gs);
    copy_in<float>(rest, x + done, xs);
    gradient_rows(steps, gs, xs, gs, rest.count, W, last);
    copy_out<float>(rest, gs, y + done);
    for (int which = 0; which < 2; ++which) {
      for (int lane = 0; lane < rest.lanes; ++lane) {
        totals[which * W + lane] += last[which * W + lane];
      }
    }
  }
  for (int which = 0; which < 2; ++which) {
    for (int lane = 0; lane < W; ++lane) {
      table[which * width + (shared ? 0 : lane)] += totals[which * W + lane];
    }
  }
}

}  // namespace

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

extern "C" const Kernels KERNELS = {TEXT(KERNELS), W,       encode,          sums,
                                    masked,        uniform, uniform_gradient};
