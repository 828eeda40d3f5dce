// Binary search among many thresholds, and sums of values by the cell that they are found in.
#pragma once

#include "rows.h"

namespace {

// Rows whose values of a lane count up to what a float number can count in a cell of their own.
constexpr int64_t kLongFlush = 1024;
// Rows of which a few channels are turned into rows of their own at a time.
constexpr int64_t kTurned = 128;

inline int bits_for(int thresholds) {
  int bits = 1;
  while ((1 << bits) - 1 < thresholds) ++bits;
  return bits;
}

// Thresholds of one channel, the middle one of what is left at each depth, and its levels.
class Tree {
 public:
  Tree(int bits, const float* nodes, const float* levels)
      : bits_(bits), nodes_(nodes), levels_(levels) {}

  // Where the nodes of a depth begin: there is room for 16 at least.
  static constexpr int64_t begin(int depth) { return depth < 5 ? 16 * depth : 48 + (1 << depth); }

  // The number of thresholds below each value.
  inline I cells(F x) const {
    I place = set_bits(0);
    for (int depth = 0; depth < bits_; ++depth) {
      const F threshold = looked_up(nodes_ + begin(depth), depth, place);
      place = child(place, above(x, threshold));
    }
    return place;
  }

  inline F level(I cell) const { return looked_up(levels_, bits_, cell); }

 private:
  int bits_;
  const float* nodes_;
  const float* levels_;
};

// Trees of neighbouring channels.
class Trees {
 public:
  Trees(const Encoding& call, int64_t first_channel, int lanes)
      : bits_(bits_for(call.count)),
        size_(Tree::begin(bits_) + (bits_ < 4 ? 16 : 1 << bits_)),
        numbers_(size_ * lanes) {
    for (int lane = 0; lane < lanes; ++lane) grow(call, first_channel + lane, nodes(lane));
  }

  Tree operator[](int lane) {
    return Tree(bits_, nodes(lane), nodes(lane) + Tree::begin(bits_));
  }

 private:
  float* nodes(int lane) { return numbers_ + lane * size_; }

  void grow(const Encoding& call, int64_t channel, float* nodes) {
    const float* thresholds = call.thresholds + channel;
    for (int depth = 0; depth < bits_; ++depth) {
      for (int place = 0; place < 1 << depth; ++place) {
        const int number = ((2 * place + 1) << (bits_ - depth - 1)) - 1;
        nodes[Tree::begin(depth) + place] =
            number < call.count ? thresholds[number * call.channels] : INFINITY;
      }
    }
    for (int k = 0; call.levels && k <= call.count; ++k) {
      nodes[Tree::begin(bits_) + k] = call.levels[k * call.channels + channel];
    }
  }

  int bits_;
  int64_t size_;
  Scratch<float> numbers_;
};

// Pairs from one lane to the next. Not a power of two: equal levels of different lanes would lie
// 4096 bytes apart, and processors take what is stored there for what is loaded here.
inline int pairs_of_lane(int bits) { return (1 << bits) + 8; }

// Sums and counts by lane and level, in pairs.
class Totals {
 public:
  explicit Totals(int bits)
      : bits_(bits), stride_(pairs_of_lane(bits)), pairs_(2 * W * stride_) {}

  double& sum(int64_t lane, int64_t level) { return pairs_[2 * (lane * stride_ + level)]; }
  double& count(int64_t lane, int64_t level) { return pairs_[2 * (lane * stride_ + level) + 1]; }
  double* pairs() { return pairs_; }

  // A value that is no number is in the lowest cell: then no sum of its lane is one.
  void spoil() {
    for (int lane = 0; lane < W; ++lane) {
      if (!std::isnan(sum(lane, 0))) continue;
      for (int level = 1; level < 1 << bits_; ++level) sum(lane, level) = NAN;
    }
  }

 private:
  int bits_;
  int64_t stride_;
  Scratch<double> pairs_;
};

// The same of few rows, as float numbers. Where two sums are wanted, one of them takes the place of
// the counts.
template <bool Counts = true>
class Cells {
 public:
  explicit Cells(int bits) : size_(2 * W * pairs_of_lane(bits)), pairs_(size_) {}

  // Values of the first lanes and the numbers of the pairs that each is to be added to. They are
  // held for a while: what has just been stored cannot be loaded at once.
  inline void add(I numbers, F values, int lanes) {
    store_index(numbers_ + held_, numbers);
    store(values_ + held_, values);
    held_ += lanes;
    if (held_ > kHeld - W) add_held();
  }

  // The same of two values for each pair.
  inline void add(I numbers, F values, F seconds, int lanes) {
    store(seconds_ + held_, seconds);
    add(numbers, values, lanes);
  }

  void flush(Totals& totals) {
    add_held();
    double* to = totals.pairs();
    float* pairs = pairs_;
    for (int64_t i = 0; i < size_; ++i) {
      to[i] += pairs[i];
      pairs[i] = 0.0f;
    }
  }

 private:
  static constexpr int kHeld = 16 * W;

  void add_held() {
    typedef float Pair __attribute__((vector_size(8)));
    float* pairs = pairs_;
    for (int i = 0; i < held_; ++i) {
      float* place = pairs + 2 * int64_t(numbers_[i]);
      Pair now;
      std::memcpy(&now, place, 8);
      now += Pair{values_[i], Counts ? 1.0f : seconds_[i]};
      std::memcpy(place, &now, 8);
    }
    held_ = 0;
  }

  int64_t size_;
  Scratch<float> pairs_;
  int held_ = 0;
  int32_t numbers_[kHeld];
  float values_[kHeld];
  float seconds_[Counts ? 1 : kHeld];
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

// Values that share a tree: each lane adds up in cells of its own, so that no addition waits for
// the one before.
template <class T, bool Collect>
void search(const Encoding& call, Tree tree, const T* x, T* y, uint8_t* mask, int64_t rows,
            Totals& totals) {
  const Range range(call);
  const F floor = set(call.relu ? 0.0f : -INFINITY);
  const int bits = bits_for(call.count);
  const I own = multiplied(lane_numbers(), pairs_of_lane(bits));
  Cells<> cells(Collect ? bits : 0);
  for (int64_t begin = 0; begin < rows; begin += kLongFlush) {
    const int64_t end = begin + kLongFlush < rows ? begin + kLongFlush : rows;
    for (int64_t r = begin; r < end; ++r) {
      const F value = load(x + r * W);
      const I cell = tree.cells(value);
      F found = tree.level(cell);
      if (Collect) cells.add(add_bits(cell, own), max(value, floor), W);
      if (call.keeps_nan) found = choose(is_nan(value), value, found);
      store(y + r * W, found);
      if (mask) put_mask(mask + r * (W / 8), range.holds(value));
    }
    if (Collect) cells.flush(totals);
  }
  if (Collect) totals.spoil();
}

// Values of neighbouring channels that have trees of their own. They are turned, so that the
// lanes of a vector share one: looking up is faster than to gather.
template <class T, bool Collect>
class TurnedSearch {
 public:
  TurnedSearch(const Encoding& call, Trees& trees, const Rows& rows)
      : call_(call),
        trees_(trees),
        rows_(rows),
        bits_(bits_for(call.count)),
        tile_(W * kTurned),
        cells_(Collect ? bits_ : 0) {}

  void run(const T* x, T* y, Totals& totals) {
    for (int64_t begin = 0; begin < rows_.count; begin += kTurned) {
      const int64_t left = rows_.count - begin;
      const int count = int(left < kTurned ? left : kTurned);
      turn_in(x + begin * rows_.stride, count);
      for (int lane = 0; lane < rows_.lanes; ++lane) search_lane(lane, count);
      turn_out(y + begin * rows_.stride, count);
      const bool full = (begin + kTurned) % kLongFlush == 0;
      if (Collect && (full || left <= kTurned)) cells_.flush(totals);
    }
    if (Collect) totals.spoil();
  }

 private:
  void turn_in(const T* x, int count) {
    for (int first = 0; first < count; first += W) {
      F block[W];
      for (int i = 0; i < W; ++i) {
        block[i] = first + i < count ? load(x + (first + i) * rows_.stride) : set(0.0f);
      }
      transpose(block);
      for (int lane = 0; lane < W; ++lane) store(tile_ + lane * kTurned + first, block[lane]);
    }
  }

  void turn_out(T* y, int count) {
    for (int first = 0; first < count; first += W) {
      F block[W];
      for (int lane = 0; lane < W; ++lane) block[lane] = load(tile_ + lane * kTurned + first);
      transpose(block);
      for (int i = 0; i < W && first + i < count; ++i) {
        store(y + (first + i) * rows_.stride, block[i]);
      }
    }
  }

  void search_lane(int lane, int count) {
    const Tree tree = trees_[lane];
    const F floor = set(call_.relu ? 0.0f : -INFINITY);
    const int own = lane * pairs_of_lane(bits_);
    float* values = tile_ + lane * kTurned;
    for (int first = 0; first < count; first += W) {
      const F value = load(values + first);
      const I cell = tree.cells(value);
      F found = tree.level(cell);
      const int some = count - first < W ? count - first : W;
      if (Collect) cells_.add(add_bits(cell, own), max(value, floor), some);
      if (call_.keeps_nan) found = choose(is_nan(value), value, found);
      store(values + first, found);
    }
  }

  const Encoding& call_;
  Trees& trees_;
  const Rows rows_;
  const int bits_;
  Scratch<float> tile_;
  Cells<> cells_;
};

}  // namespace
