// Kernels of uniform quantizers and their gradients.
#pragma once

#include "rows.h"

namespace {

// Gradients of a value, and its shares in those of step and offset.
struct Shares {
  F of_x, of_step, of_offset;
};

// Numbers of a uniform quantizer for the lanes of a part.
class EqualSteps {
 public:
  EqualSteps(const Uniform& call, const Part& part)
      : low_(set(call.low)), high_(set(call.high)), call_(call) {
    step_ = lanes(call.step, part);
    if (call.offset) offset_ = lanes(call.offset, part);
  }

  // NaN stays; zero has no sign.
  inline F rectified(F x) const {
    return call_.relu ? choose(at_most(x, zero_), zero_, x) : x;
  }

 protected:
  inline F shifted(F x) const { return call_.offset ? x - offset_ : x; }

  inline F clipped(F steps) const {
    // NaN stays.
    return max(min(steps, high_), low_);
  }

  inline F level(F whole) const {
    const F y = whole * step_;
    return call_.offset ? y + offset_ : y;
  }

  // What the gradient scaling of EWGS adds.
  inline F extra(F upstream, F error) const {
    return set(call_.delta) * magnitude(upstream) * error;
  }

  // A gradient toward what was rectified.
  inline F before_relu(F gradient, F x) const {
    return call_.relu ? gradient * choose(above(x, zero_), set(1.0f), zero_) : gradient;
  }

  F low_, high_;
  F zero_ = set(0.0f);
  F step_ = set(1.0f), offset_ = set(0.0f);
  const Uniform& call_;

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
};

// The arithmetic of quant/uniform.py, in its order.
class ClipsFirst : public EqualSteps {
 public:
  using EqualSteps::EqualSteps;

  inline F quantized(F x) const { return level(rounded(clipped(ratio(x)))); }

  inline Shares shares(F upstream, F x) const {
    const F steps = ratio(x);
    const F inner = clipped(steps);
    const F error = inner - rounded(inner);
    return {toward_x(upstream, x, steps, error), toward_step(upstream, steps, inner, error),
            toward_offset(upstream, steps, error)};
  }

 private:
  inline F ratio(F x) const { return shifted(x) / step_; }

  inline F toward_x(F upstream, F x, F ratio, F error) const {
    F found = upstream;
    if (call_.delta != 0) found = found + extra(upstream, error);
    if (!call_.passes_all) found = choose(within(ratio, call_.passes_ends), found, zero_);
    return before_relu(found, x);
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

  inline M within(F ratio, bool ends) const {
    if (ends) return both(at_least(ratio, low_), at_most(ratio, high_));
    return both(above(ratio, low_), above(high_, ratio));
  }
};

// The arithmetic of quant/affine.py, in its order.
class RoundsFirst : public EqualSteps {
 public:
  RoundsFirst(const Uniform& call, const Part& part) : EqualSteps(call, part) {
    float steps[W];
    store(steps, step_);
    for (int lane = 0; lane < W; ++lane) steps[lane] = float(1 / double(steps[lane]));
    inverse_ = load(steps);
  }

  inline F quantized(F x) const { return level(clipped(rounded(ratio(x)))); }

  inline Shares shares(F upstream, F x) const {
    const F steps = ratio(x);
    const F nearest = rounded(steps);
    const M inside = both(at_least(nearest, low_), at_most(nearest, high_));
    F passed = choose(inside, upstream * step_, zero_);
    if (call_.delta != 0) passed = passed + extra(passed, steps - nearest);
    const F found = passed * inverse_;
    const F of_step = upstream * clipped(nearest) - found * steps;
    return {before_relu(found, x), of_step, upstream - found};
  }

 private:
  inline F ratio(F x) const { return shifted(x) * inverse_; }

  F inverse_;
};

template <class Rule>
void uniform_rows(const Rule& rule, const float* x, float* y, int64_t rows, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const F value = rule.rectified(load(x + r * stride));
    store(y + r * stride, rule.quantized(value));
  }
}

template <class Rule>
void uniform_by(const Uniform& call, const Part& part, const float* x, float* y) {
  const Rule rule(call, part);
  Rows rows{part.rows, part.stride, W};
  if (call.channels == 1) {
    const int64_t whole = part.stride / W;
    uniform_rows(rule, x, y, whole, W);
    rows = Rows{1, W, int(part.stride % W)};
    x += whole * W;
    y += whole * W;
  } else {
    rows.lanes = lanes_of(call.channels, part);
    if (rows.lanes == W) uniform_rows(rule, x, y, rows.count, rows.stride);
  }
  if (rows.lanes == 0 || rows.lanes == W) return;
  Scratch<float> padded(rows.count * W);
  copy_in<float>(rows, x, padded);
  uniform_rows(rule, padded, padded, rows.count, W);
  copy_out<float>(rows, padded, y);
}

void uniform(const Uniform& call, const Part& part, const float* x, float* y) {
  auto* kernel = call.rounds_first ? uniform_by<RoundsFirst> : uniform_by<ClipsFirst>;
  kernel(call, part, x, y);
}

template <class Rule>
void gradient_rows(const Rule& rule, const float* upstream, const float* x, float* y, int64_t rows,
                   int64_t stride, double* table) {
  for (int64_t begin = 0; begin < rows; begin += kFlush) {
    const int64_t end = begin + kFlush < rows ? begin + kFlush : rows;
    Sum of_step, of_offset;
    for (int64_t r = begin; r < end; ++r) {
      const F value = rule.rectified(load(x + r * stride));
      const Shares found = rule.shares(load(upstream + r * stride), value);
      of_step.lanes = of_step.lanes + found.of_step;
      of_offset.lanes = of_offset.lanes + found.of_offset;
      store(y + r * stride, found.of_x);
    }
    of_step.flush(table);
    of_offset.flush(table + W);
  }
}

template <class Rule>
void gradient_by(const Uniform& call, const Part& part, const float* upstream, const float* x,
                 float* y, double* table) {
  const Rule rule(call, part);
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
    gradient_rows(rule, upstream, x, y, rows.count, rows.stride, totals);
  }
  if (rest.lanes && rest.lanes < W) {
    Scratch<float> gs(rest.count * W), xs(rest.count * W);
    double last[2 * W] = {};
    copy_in<float>(rest, upstream + done, gs);
    copy_in<float>(rest, x + done, xs);
    gradient_rows(rule, gs, xs, gs, rest.count, W, last);
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

void uniform_gradient(const Uniform& call, const Part& part, const float* upstream,
                      const float* x, float* y, double* table) {
  auto* kernel = call.rounds_first ? gradient_by<RoundsFirst> : gradient_by<ClipsFirst>;
  kernel(call, part, upstream, x, y, table);
}

}  // namespace
