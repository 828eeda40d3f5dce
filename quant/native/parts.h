// Parts of a tensor that threads take, and what operations of quantizers have in common.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::InferenceContext;

// Work by number on TensorFlow's threads; cost is that of one, in steps of the processor.
template <class Work>
void run(OpKernelContext* context, int64_t count, int64_t cost, const Work& work) {
  auto* threads = context->device()->tensorflow_cpu_worker_threads();
  threads->workers->ParallelFor(count, cost, [&work](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; ++number) work(number);
  });
}

// The parts of a tensor: what is computed of each depends on its shape alone, not on the number
// of threads.
class Parts {
 public:
  static constexpr int64_t kFewest = 16384;  // values of a part, at least
  static constexpr int64_t kMost = 64;       // parts

  Parts(int64_t size, int64_t channels, int lanes)
      : size_(size), channels_(channels), lanes_(lanes) {
    if (channels == 1) {
      length_ = std::max(kFewest, (size / kMost + 15) / 16 * 16);
      groups_ = 1;
      count_ = (size + length_ - 1) / length_;
      return;
    }
    rows_ = size / channels;
    groups_ = (channels + lanes - 1) / lanes;
    const int64_t wanted = std::min(rows_ * lanes / kFewest, kMost / groups_);
    chunks_ = std::max<int64_t>(1, wanted);
    length_ = (rows_ + chunks_ - 1) / chunks_;
    count_ = size ? chunks_ * groups_ : 0;
  }

  int64_t count() const { return count_; }
  bool shared() const { return channels_ == 1; }
  // Groups of neighbouring channels.
  int64_t groups() const { return groups_; }
  int64_t group(int64_t number) const { return shared() ? 0 : number % groups_; }

  // The place of a part's first value.
  int64_t begin(int64_t number) const {
    if (shared()) return number * length_;
    return number / groups_ * length_ * channels_ + group(number) * lanes_;
  }

  Part part(int64_t number) const {
    if (shared()) return {1, std::min(length_, size_ - begin(number)), 0};
    const int64_t first = number / groups_ * length_;
    return {std::max<int64_t>(0, std::min(length_, rows_ - first)), channels_,
            group(number) * lanes_};
  }

  // What a part costs, see ``run``.
  int64_t cost() const { return 4 * size_ / std::max<int64_t>(count_, 1); }

 private:
  int64_t size_, channels_, lanes_;
  int64_t rows_ = 0, groups_ = 1, chunks_ = 1, length_ = 1, count_ = 0;
};

// Tables of [kinds][height] numbers per channel: one of each part, and their sum.
class PartTables {
 public:
  PartTables(const Parts& parts, int kinds, int64_t height, int lanes)
      : parts_(parts),
        lanes_(parts.shared() ? 1 : lanes),
        size_(kinds * height * lanes_),
        numbers_(parts.count() * size_) {}

  double* of_part(int64_t number) { return numbers_.data() + number * size_; }

  // The table of a group of channels over all its parts, added up in the first.
  const double* of_group(int64_t group) {
    double* table = of_part(group);
    for (int64_t number = group + parts_.groups(); number < parts_.count();
         number += parts_.groups()) {
      const double* more = of_part(number);
      for (int64_t i = 0; i < size_; ++i) table[i] += more[i];
    }
    return table;
  }

  int64_t lanes() const { return lanes_; }

  // Row ``row`` of the table, of a channel, over all parts.
  double total(int64_t row, int64_t channel) const {
    double sum = 0;
    const int64_t first = parts_.shared() ? 0 : channel / lanes_;
    for (int64_t number = first; number < parts_.count(); number += parts_.groups()) {
      sum += numbers_[number * size_ + row * lanes_ + channel % lanes_];
    }
    return sum;
  }

 private:
  const Parts& parts_;
  int64_t lanes_, size_;
  std::vector<double> numbers_;
};

char* bytes(Tensor* tensor) { return static_cast<char*>(tensor->data()); }
const char* bytes(const Tensor& tensor) { return static_cast<const char*>(tensor.data()); }

float* floats(Tensor* tensor) { return static_cast<float*>(tensor->data()); }
const float* floats(const Tensor& tensor) { return static_cast<const float*>(tensor.data()); }

// An output of the shape of inputs, in the memory of one of them that nobody else needs.
bool output_like(OpKernelContext* context, const std::vector<int>& inputs, Tensor** output) {
  const TensorShape& shape = context->input(inputs[0]).shape();
  const auto status = context->forward_input_or_allocate_output(inputs, 0, shape, output);
  if (!status.ok()) context->SetStatus(status);
  return status.ok();
}

bool columns_fit(OpKernelContext* context, const Tensor& x, int64_t channels) {
  const bool fit =
      channels == 1 || (x.dims() > 0 && x.dim_size(x.dims() - 1) == channels && channels > 0);
  if (!fit) {
    context->SetStatus(absl::InvalidArgumentError("numbers per channel need channels last"));
  }
  return fit;
}

absl::Status like_first(InferenceContext* context) {
  context->set_output(0, context->input(0));
  return absl::OkStatus();
}

}  // namespace

#define ON_CPU(NAME, KERNEL) \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(tensorflow::DEVICE_CPU), KERNEL)
