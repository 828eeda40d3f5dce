// Memory of kernels, and rows of values that are fewer than a vector has lanes.
#pragma once

#include <cmath>
#include <cstdlib>

#include "kernels.h"
#include "vectors.h"

namespace {

// Rows whose lanes add up as float numbers.
constexpr int64_t kFlush = 64;

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

}  // namespace
