// Kernels of what quantizers learn beside steps: a clip, an interval, and a line of slopes.
#pragma once

#include "search.h"

namespace {

// Adds the lanes of a sum to one number, and begins the sum anew.
inline void add_lanes(Sum& sum, double* total) {
  double lanes[W] = {};
  sum.flush(lanes);
  for (int lane = 0; lane < W; ++lane) *total += lanes[lane];
}

// The arithmetic of quant/apot.py.
class Clipping {
 public:
  explicit Clipping(const Clip& call)
      : clip_(set(call.clip)),
        low_(set(call.low)),
        steps_(set(call.steps)),
        everywhere_(call.everywhere) {}

  inline F toward_x(F upstream, F x, F y) {
    const F zero = set(0.0f);
    const F ratio = x / clip_;
    // NaN stays, and lies nowhere.
    const F clipped = max(min(ratio, set(1.0f)), low_);
    const M inside = both(at_least(ratio, low_), at_most(ratio, set(1.0f)));
    const F error = ratio - y / clip_;
    const F extra = choose(inside, steps_ * magnitude(upstream) * error, zero);
    const F slope = choose(inside, negated(error), clipped);
    of_clip_.lanes = of_clip_.lanes + (upstream * slope - extra * clipped);
    const F found = upstream + extra;
    return everywhere_ ? found : choose(inside, found, zero);
  }

  // To be called after at most kFlush rows.
  void flush(double* table) { add_lanes(of_clip_, table); }

  void finish(double*) {}

 private:
  F clip_, low_, steps_;
  bool everywhere_;
  Sum of_clip_;
};

// The arithmetic of quant/ewgs.py.
class Spreading {
 public:
  explicit Spreading(const Interval& call)
      : lower_(set(call.lower)), width_(set(call.width)), steps_(set(call.steps)), call_(call) {}

  // NaN stays; zero has no sign.
  static inline F rectified(F x) { return choose(at_most(x, set(0.0f)), set(0.0f), x); }

  inline F level(F x) const {
    const F value = call_.relu ? rectified(x) : x;
    const F unit = rounded(share(ratio(value)) * steps_) / steps_;
    return call_.centred ? set(2.0f) * unit - set(1.0f) : unit;
  }

  inline F toward_x(F upstream, F x, F) {
    const F zero = set(0.0f);
    const F value = call_.relu ? rectified(x) : x;
    const F place = ratio(value);
    const F part = share(place);
    F found = (call_.centred ? upstream * set(2.0f) : upstream) / steps_;
    if (call_.delta != 0) {
      const F error = part * steps_ - rounded(part * steps_);
      found = found + set(call_.delta) * magnitude(found) * error;
    }
    const M inside = both(at_least(place, part), at_most(place, part));
    found = choose(inside, found * steps_ / width_, zero);
    of_lower_.lanes = of_lower_.lanes - found;
    of_width_.lanes = of_width_.lanes - choose(inside, found * part, zero);
    return call_.relu ? found * choose(above(value, zero), set(1.0f), zero) : found;
  }

  // To be called after at most kFlush rows.
  void flush(double* table) {
    add_lanes(of_lower_, table);
    add_lanes(of_width_, table + 1);
  }

  void finish(double*) {}

 private:
  inline F ratio(F x) const { return (x - lower_) / width_; }
  static inline F share(F ratio) { return rectified(min(ratio, set(1.0f))); }

  F lower_, width_, steps_;
  const Interval& call_;
  Sum of_lower_, of_width_;
};

// The arithmetic of quant/n2uq.py.
class Climbing {
 public:
  explicit Climbing(const Line& call)
      : count_(call.count),
        slopes_(table(call, call.slopes), 0, 1),
        lowers_(table(call, call.lowers), 0, 1),
        own_(multiplied(lane_numbers(), pairs_of_lane(bits_for(call.count)))),
        scale1_(set(call.scale1)),
        scale2_(set(call.scale2)),
        cells_(bits_for(call.count)),
        totals_(bits_for(call.count)) {}

  inline F toward_x(F upstream, F x, F y) {
    const Tree slopes = slopes_[0];
    const I cell = slopes.cells(x);
    const F through = upstream * slopes.level(cell) * scale2_;
    const F climbed = x * scale1_ - lowers_[0].level(cell);
    cells_.add(add_bits(cell, own_), through, through * climbed, W);
    of_scale1_.lanes = of_scale1_.lanes + through * x;
    of_scale2_.lanes = of_scale2_.lanes + upstream * y;
    return through * scale1_;
  }

  // To be called after at most kFlush rows; cells add up over more.
  void flush(double* table) {
    add_lanes(of_scale1_, table);
    add_lanes(of_scale2_, table + 1);
    if (++flushes_ % (kLongFlush / kFlush) == 0) cells_.flush(totals_);
  }

  // Sums by cell of what comes through, and of that times what was climbed.
  void finish(double* table) {
    cells_.flush(totals_);
    double* sums = table + 2;
    double* turned = sums + count_ + 1;
    for (int k = 0; k <= count_; ++k) {
      for (int lane = 0; lane < W; ++lane) {
        sums[k] += totals_.sum(lane, k);
        turned[k] += totals_.count(lane, k);
      }
    }
  }

 private:
  static Encoding table(const Line& call, const float* levels) {
    Encoding found{};
    found.count = call.count;
    found.channels = 1;
    found.thresholds = call.ends;
    found.levels = levels;
    return found;
  }

  int count_;
  Trees slopes_, lowers_;
  I own_;
  F scale1_, scale2_;
  Cells<false> cells_;
  Totals totals_;
  Sum of_scale1_, of_scale2_;
  int64_t flushes_ = 0;
};

// Gradients of all values of a part; those of a last vector that is not full are padded by zeros,
// whose gradient is zero.
template <class Rule>
void gradients(Rule& rule, int64_t size, const float* upstream, const float* x, const float* y,
               float* toward_x, double* table) {
  const int64_t whole = size / W * W;
  const int64_t together = kFlush * W;
  for (int64_t begin = 0; begin < whole; begin += together) {
    const int64_t end = begin + together < whole ? begin + together : whole;
    for (int64_t i = begin; i < end; i += W) {
      store(toward_x + i, rule.toward_x(load(upstream + i), load(x + i), load(y + i)));
    }
    rule.flush(table);
  }
  const int64_t rest = size - whole;
  if (rest) {
    float padded[3][W] = {}, found[W];
    std::memcpy(padded[0], upstream + whole, rest * sizeof(float));
    std::memcpy(padded[1], x + whole, rest * sizeof(float));
    std::memcpy(padded[2], y + whole, rest * sizeof(float));
    store(found, rule.toward_x(load(padded[0]), load(padded[1]), load(padded[2])));
    std::memcpy(toward_x + whole, found, rest * sizeof(float));
    rule.flush(table);
  }
  rule.finish(table);
}

void clip_gradient(const Clip& call, int64_t size, const float* upstream, const float* x,
                   const float* y, float* toward_x, double* table) {
  Clipping rule(call);
  gradients(rule, size, upstream, x, y, toward_x, table);
}

void interval(const Interval& call, int64_t size, const float* x, float* y) {
  const Spreading rule(call);
  const int64_t whole = size / W * W;
  for (int64_t i = 0; i < whole; i += W) store(y + i, rule.level(load(x + i)));
  const int64_t rest = size - whole;
  if (rest) {
    float padded[W] = {};
    std::memcpy(padded, x + whole, rest * sizeof(float));
    store(padded, rule.level(load(padded)));
    std::memcpy(y + whole, padded, rest * sizeof(float));
  }
}

void interval_gradient(const Interval& call, int64_t size, const float* upstream, const float* x,
                       float* toward_x, double* table) {
  Spreading rule(call);
  gradients(rule, size, upstream, x, x, toward_x, table);
}

void line_gradient(const Line& call, int64_t size, const float* upstream, const float* x,
                   const float* y, float* toward_x, double* table) {
  Climbing rule(call);
  gradients(rule, size, upstream, x, y, toward_x, table);
}

}  // namespace
