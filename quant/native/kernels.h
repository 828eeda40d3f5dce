// A set of kernels, compiled for one instruction set, each of which takes a part of a tensor.
//
// A part is a run of values that share all numbers, or rows of a few neighbouring channels that
// have numbers of their own.
#pragma once

#include <cstdint>

// Thresholds that values can be encoded against.
constexpr int kMostThresholds = 511;

// Bits of a code.
constexpr int kMostBits = 8;

enum class Inside { kNone, kBelow, kPositive, kSymmetric };

// A tensor's values at the levels between its thresholds; ascending, [count][channels] and
// [count + 1][channels]. channels is 1 where all values share them.
struct Encoding {
  int count;
  int64_t channels;
  const float* thresholds;
  const float* levels;
  bool bf16;      // type of values, read and written
  bool relu;      // values below zero count as zero in sums
  bool keeps_nan;  // else it takes the lowest level
  bool collect;   // statistics
  Inside inside;  // up to the highest level, and: anything, above zero, down to minus that
};

// A uniform quantizer: the nearest of offset + k step, low <= k <= high, and its gradients.
// rounds_first: values are multiplied by 1 / step, and lie in the range if they round into it; what
// gradients pass follows from that, but for delta.
struct Uniform {
  int64_t channels;
  const float* step;
  const float* offset;  // null: 0
  float low;
  float high;
  float delta;
  bool relu;
  bool rounds_first;
  bool passes_all;
  bool passes_ends;
  bool clip_ends;
  bool inner;
};

// A clip that is learned: values divided by it lie within from low to 1.
struct Clip {
  float clip;
  float low;
  float steps;      // of the gradient scaling of EWGS
  bool everywhere;  // a gradient of x beyond the clip, too
};

// An interval that is learned: what lies in it goes onto the levels 0, 1 / steps ... 1, or as far
// from -1 to 1.
struct Interval {
  float lower;
  float width;
  float steps;
  float delta;  // of the gradient scaling of EWGS, for errors in steps
  bool centred;  // from -1
  bool relu;
};

// A line in count + 1 cells: scale2 times what scale1 times a value climbs, at the slope of its
// cell, above the lower end of that.
struct Line {
  int count;
  const float* ends;
  const float* slopes;
  const float* lowers;
  float scale1;
  float scale2;
};

// Vectors [bits][channels] of which sums are made: each once, or low times.
struct Basis {
  int bits;
  int64_t channels;
  const float* values;
  float low;
};

// Where a part lies: rows of channels from first_channel on, stride values apart; all channels
// that the kernels take at once. Shared numbers: rows is 1 and there are stride values in it.
struct Part {
  int64_t rows;
  int64_t stride;
  int64_t first_channel;
};

struct Kernels {
  const char* name;
  int lanes;  // channels of a part
  // Writes y, the bit mask where there is one, and per level counts and sums of these or of other
  // values, [2][count + 1][lanes], or [2][count + 1] where thresholds are shared.
  void (*encode)(const Encoding&, const Part&, const void* x, void* y, uint8_t* mask,
                 double* table);
  // The upstream gradient where the bit mask is set.
  void (*masked)(bool bf16, int64_t size, const void* upstream, const uint8_t* mask, void* y);
  void (*uniform)(const Uniform&, const Part&, const float* x, float* y);
  // Gradients of x, and sums for step and offset, [2][lanes] or [2].
  void (*uniform_gradient)(const Uniform&, const Part&, const float* upstream, const float* x,
                           float* y, double* table);
  // Gradients of x, from upstream ones and from x at its levels, and the sum for the clip.
  void (*clip_gradient)(const Clip&, int64_t size, const float* upstream, const float* x,
                        const float* y, float* toward_x, double* sum);
  // Values at the levels of an interval.
  void (*interval)(const Interval&, int64_t size, const float* x, float* y);
  // Gradients of x, and the sums for the lower end and the width.
  void (*interval_gradient)(const Interval&, int64_t size, const float* upstream, const float* x,
                            float* toward_x, double* sums);
  // As of a clip; sums of what comes through the line times x, of upstream times y, and by cell of
  // what comes through and of that times what was climbed, [count + 1] each.
  void (*line_gradient)(const Line&, int64_t size, const float* upstream, const float* x,
                        const float* y, float* toward_x, double* table);
  // Of a few channels: sums [2**bits][channels], ascending, the middles between them, and the
  // numbers of their codes, [channels][2**bits].
  void (*grid)(const Basis&, int64_t first_channel, float* levels, float* thresholds,
               int32_t* codes);
};

// Those for this processor, of those that an environment variable leaves.
const Kernels& chosen();

extern "C" {
extern const Kernels quant_kernels_generic;
#if defined(__x86_64__)
extern const Kernels quant_kernels_avx2;
extern const Kernels quant_kernels_avx512;
#endif
}
