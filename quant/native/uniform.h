// Kernels of uniform quantizers and their gradients.
#pragma once

#include "rows.h"

namespace {

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
