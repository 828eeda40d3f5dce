// Kernels for the instruction set that this file is compiled for, once each. Nothing here may be
// shared between these: no templates of the standard library.
#include "kernels.h"

#include "grid.h"
#include "learned.h"
#include "rows.h"
#include "search.h"
#include "uniform.h"

#ifndef KERNELS
#error "KERNELS names the set of kernels"
#endif

namespace {

// Thresholds that are compared with one by one; more are searched.
constexpr int kCompared = W == 16 ? 15 : 7;

// Thresholds and levels of W lanes, padded to a power of two of levels.
class Tables {
 public:
  Tables(const Encoding& call, int64_t first_channel, int lanes, int bits)
      : levels_(int64_t(W) << bits), thresholds_(int64_t(W) << bits) {
    const bool shared = call.channels == 1;
    for (int k = 0; k < 1 << bits; ++k) {
      for (int lane = 0; lane < lanes; ++lane) {
        const int64_t channel = shared ? 0 : first_channel + lane;
        const int level = k > call.count ? call.count : k;
        thresholds_[k * W + lane] =
            k < call.count ? call.thresholds[k * call.channels + channel] : INFINITY;
        levels_[k * W + lane] = call.levels[level * call.channels + channel];
      }
    }
  }

  F threshold(int k) { return load(thresholds_ + k * W); }
  F level(int k) { return load(levels_ + k * W); }

 private:
  Scratch<float> levels_;
  Scratch<float> thresholds_;
};

template <class T, int N, bool Collect>
void compare(const Encoding& call, Tables& tables, const T* x, T* y, uint8_t* mask, int64_t rows,
             int64_t stride, Totals& totals) {
  F threshold[N], level[N + 1];
  for (int k = 0; k < N; ++k) threshold[k] = tables.threshold(k);
  for (int k = 0; k <= N; ++k) level[k] = tables.level(k);
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
      totals.count(lane, k) += k < N ? number - counts[k][lane] : number;
      totals.sum(lane, k) += k < N ? value - sums[k][lane] : value;
    }
    if (std::isnan(total[lane])) totals.sum(lane, 0) = NAN;
  }
}

// Values of a part at their levels, and statistics.
template <class T, bool Collect>
class Encoder {
 public:
  Encoder(const Encoding& call, const Part& part)
      : call_(call),
        bits_(bits_for(call.count)),
        compares_(call.count <= kCompared),
        shared_(call.channels == 1),
        lanes_(shared_ ? W : lanes_of(call.channels, part)),
        tables_(call, part.first_channel, compares_ ? lanes_ : 0, compares_ ? bits_ : 0),
        trees_(call, part.first_channel, compares_ ? 0 : shared_ ? 1 : lanes_) {}

  void run(const Part& part, const T* x, T* y, uint8_t* mask, double* table) {
    if (!shared_) {
      run_rows(Rows{part.rows, part.stride, lanes_}, x, y, mask, table);
      return;
    }
    const int64_t whole = part.stride / W;
    const int64_t done = whole * W;
    run_rows(Rows{whole, W, W}, x, y, mask, table);
    const Rows rest{1, W, int(part.stride - done)};
    if (rest.lanes) run_rows(rest, x + done, y + done, mask ? mask + done / 8 : nullptr, table);
  }

 private:
  void run_rows(const Rows& rows, const T* x, T* y, uint8_t* mask, double* table) {
    Totals totals(bits_);
    if (rows.lanes == W) {
      encode(rows, x, y, mask, totals);
    } else {
      Scratch<T> padded(rows.count * W);
      uint8_t bits[W / 8] = {};
      copy_in<T>(rows, x, padded);
      encode(Rows{rows.count, W, rows.lanes}, padded, padded, mask ? bits : nullptr, totals);
      copy_out<T>(rows, padded, y);
      if (mask) std::memcpy(mask, bits, (rows.lanes + 7) / 8);
    }
    if (Collect) add_to_table(rows.lanes, totals, table);
  }

  void encode(const Rows& rows, const T* x, T* y, uint8_t* mask, Totals& totals) {
    if (!compares_ && shared_) {
      search<T, Collect>(call_, trees_[0], x, y, mask, rows.count, totals);
      return;
    }
    if (!compares_) {
      TurnedSearch<T, Collect>(call_, trees_, rows).run(x, y, totals);
      return;
    }
    auto* kernel = compare<T, 1, Collect>;
    if (bits_ == 2) kernel = compare<T, 3, Collect>;
    if (bits_ == 3) kernel = compare<T, 7, Collect>;
    if (bits_ == 4) kernel = compare<T, 15, Collect>;
    kernel(call_, tables_, x, y, mask, rows.count, rows.stride, totals);
    if (Collect) totals.spoil();
  }

  // Adds totals of the first lanes to a table, all of them to one number where they share it.
  void add_to_table(int lanes, Totals& totals, double* table) {
    const int width = shared_ ? 1 : W;
    double* sums = table + (call_.count + 1) * width;
    for (int k = 0; k <= call_.count; ++k) {
      for (int lane = 0; lane < lanes; ++lane) {
        const int column = shared_ ? 0 : lane;
        table[k * width + column] += totals.count(lane, k);
        sums[k * width + column] += totals.sum(lane, k);
      }
    }
  }

  const Encoding& call_;
  const int bits_;
  const bool compares_;
  const bool shared_;
  const int lanes_;
  Tables tables_;
  Trees trees_;
};

template <class T>
void encode_as(const Encoding& call, const Part& part, const void* x, void* y, uint8_t* mask,
               double* table) {
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(y);
  if (call.collect) {
    Encoder<T, true>(call, part).run(part, from, to, mask, table);
  } else {
    Encoder<T, false>(call, part).run(part, from, to, mask, table);
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

}  // namespace

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

extern "C" const Kernels KERNELS = {TEXT(KERNELS), W,                encode,
                                    masked,        uniform,          uniform_gradient,
                                    clip_gradient, interval,         interval_gradient,
                                    line_gradient, grid};
