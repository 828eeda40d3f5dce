// Operations of TensorFlow that divide tensors among its threads and leave the parts to kernels.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

const Kernels& chosen() {
#if defined(__x86_64__)
  const char* limit = std::getenv("SWITCHABLE_ISA");
  const std::string most = limit ? limit : "avx512";
  __builtin_cpu_init();
  if (most == "avx512" && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return quant_kernels_avx512;
  }
  if (most != "generic" && __builtin_cpu_supports("avx2")) return quant_kernels_avx2;
#endif
  return quant_kernels_generic;
}

namespace {

using tensorflow::DataType;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::InferenceContext;

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

  template <class Work>
  void run(OpKernelContext* context, const Work& work) const {
    auto* threads = context->device()->tensorflow_cpu_worker_threads();
    const int64_t cost = 4 * size_ / std::max<int64_t>(count_, 1);
    threads->workers->ParallelFor(count_, cost, [&work](int64_t begin, int64_t end) {
      for (int64_t number = begin; number < end; ++number) work(number);
    });
  }

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

class Encode : public OpKernel {
 public:
  explicit Encode(OpKernelConstruction* context) : OpKernel(context), kernels_(chosen()) {
    OP_REQUIRES_OK(context, context->GetAttr("relu", &call_.relu));
    OP_REQUIRES_OK(context, context->GetAttr("keeps_nan", &call_.keeps_nan));
    OP_REQUIRES_OK(context, context->GetAttr("collect", &call_.collect));
    DataType type;
    OP_REQUIRES_OK(context, context->GetAttr("T", &type));
    call_.bf16 = type == tensorflow::DT_BFLOAT16;
    std::string inside;
    OP_REQUIRES_OK(context, context->GetAttr("inside", &inside));
    call_.inside = Inside::kNone;
    if (inside == "below") call_.inside = Inside::kBelow;
    if (inside == "positive") call_.inside = Inside::kPositive;
    if (inside == "symmetric") call_.inside = Inside::kSymmetric;
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& thresholds = context->input(1);
    const Tensor& levels = context->input(2);
    OP_REQUIRES(context,
                thresholds.dims() == 2 && levels.dims() == 2 && thresholds.dim_size(0) > 0 &&
                    thresholds.dim_size(0) <= kMostThresholds &&
                    levels.dim_size(0) == thresholds.dim_size(0) + 1 &&
                    levels.dim_size(1) == thresholds.dim_size(1),
                absl::InvalidArgumentError("levels are [L, C], thresholds [L - 1, C], L <= 512"));
    Encoding call = call_;
    call.count = int(thresholds.dim_size(0));
    call.channels = thresholds.dim_size(1);
    call.thresholds = floats(thresholds);
    call.levels = floats(levels);
    const bool masks = call.inside != Inside::kNone;
    OP_REQUIRES(context, !masks || call.channels == 1,
                absl::InvalidArgumentError("a mask needs shared levels"));
    if (!columns_fit(context, x, call.channels)) return;
    const int64_t size = x.NumElements();
    Tensor* y;
    Tensor* mask;
    if (!output_like(context, {0}, &y)) return;
    OP_REQUIRES_OK(context,
                   context->allocate_output(1, {masks ? (size + 7) / 8 : 0}, &mask));
    const Parts parts(size, call.channels, kernels_.lanes);
    PartTables tables(parts, 2, call.collect ? call.count + 1 : 0, kernels_.lanes);
    const int64_t width = call.bf16 ? 2 : 4;
    parts.run(context, [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      uint8_t* bits = masks ? mask->flat<uint8_t>().data() + begin / 8 : nullptr;
      kernels_.encode(call, parts.part(number), bytes(x) + begin * width,
                      bytes(y) + begin * width, bits, tables.of_part(number));
    });
    write_table(context, call, size, tables);
  }

 private:
  // Count and sum of all values, counts above each threshold, sums above each threshold.
  void write_table(OpKernelContext* context, const Encoding& call, int64_t size,
                   PartTables& tables) {
    Tensor* output;
    const int64_t height = call.collect ? 2 * (call.count + 1) : 0;
    OP_REQUIRES_OK(context, context->allocate_output(2, {height, call.channels}, &output));
    if (!call.collect) return;
    auto rows = output->matrix<double>();
    rows.setZero();
    if (!size) return;
    for (int64_t first = 0; first < call.channels; first += tables.lanes()) {
      const int64_t lanes = std::min(tables.lanes(), call.channels - first);
      const double* counts = tables.of_group(first / tables.lanes());
      const double* sums = counts + (call.count + 1) * tables.lanes();
      write_rows(call, counts, sums, lanes, tables.lanes(), &rows(0, first));
      for (int64_t lane = 0; lane < lanes; ++lane) {
        rows(0, first + lane) = double(size / call.channels);
      }
    }
  }

  // Of neighbouring channels; counts and sums are [count + 1][stride].
  static void write_rows(const Encoding& call, const double* counts, const double* sums,
                         int64_t lanes, int64_t stride, double* rows) {
    const int n = call.count;
    const int64_t channels = call.channels;
    double* total = rows + channels;
    for (int k = n; k > 0; --k) {
      double* count = rows + (k + 1) * channels;
      double* sum = rows + (n + k + 1) * channels;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const bool last = k == n;
        count[lane] = counts[k * stride + lane] + (last ? 0 : count[lane + channels]);
        total[lane] += sums[k * stride + lane];
        sum[lane] = total[lane];
      }
    }
    // Behind a ReLU the values in the lowest cell are zero, or its code is.
    for (int64_t lane = 0; lane < lanes; ++lane) {
      if (!call.relu) total[lane] += sums[lane];
    }
  }

 private:
  const Kernels& kernels_;
  Encoding call_{};
};

class Masked : public OpKernel {
 public:
  explicit Masked(OpKernelConstruction* context) : OpKernel(context), kernels_(chosen()) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& upstream = context->input(0);
    const Tensor& mask = context->input(1);
    const int64_t size = upstream.NumElements();
    OP_REQUIRES(context, mask.NumElements() == (size + 7) / 8,
                absl::InvalidArgumentError("a mask has a bit for each value"));
    Tensor* y;
    if (!output_like(context, {0}, &y)) return;
    const bool bf16 = upstream.dtype() == tensorflow::DT_BFLOAT16;
    const int64_t width = bf16 ? 2 : 4;
    const Parts parts(size, 1, kernels_.lanes);
    parts.run(context, [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      kernels_.masked(bf16, parts.part(number).stride, bytes(upstream) + begin * width,
                      mask.flat<uint8_t>().data() + begin / 8, bytes(y) + begin * width);
    });
  }

 private:
  const Kernels& kernels_;
};

class CellSums : public OpKernel {
 public:
  explicit CellSums(OpKernelConstruction* context) : OpKernel(context), kernels_(chosen()) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& values = context->input(1);
    const Tensor& thresholds = context->input(2);
    OP_REQUIRES(context,
                thresholds.NumElements() > 0 && thresholds.NumElements() <= kMostThresholds &&
                    x.NumElements() == values.NumElements(),
                absl::InvalidArgumentError("as many values as x, 1 to 511 thresholds"));
    Encoding call{};
    call.count = int(thresholds.NumElements());
    call.channels = 1;
    call.thresholds = floats(thresholds);
    const Parts parts(x.NumElements(), 1, kernels_.lanes);
    PartTables tables(parts, 1, call.count + 1, kernels_.lanes);
    parts.run(context, [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      kernels_.sums(call, parts.part(number), floats(x) + begin, floats(values) + begin,
                    tables.of_part(number));
    });
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, {call.count + 1}, &output));
    for (int k = 0; k <= call.count; ++k) output->vec<double>()(k) = tables.total(k, 0);
  }

 private:
  const Kernels& kernels_;
};

// Attributes and numbers that a uniform quantizer and its gradient share.
class UniformKernel : public OpKernel {
 public:
  explicit UniformKernel(OpKernelConstruction* context) : OpKernel(context), kernels_(chosen()) {
    OP_REQUIRES_OK(context, context->GetAttr("low", &call_.low));
    OP_REQUIRES_OK(context, context->GetAttr("high", &call_.high));
    OP_REQUIRES_OK(context, context->GetAttr("relu", &call_.relu));
  }

 protected:
  bool complete(OpKernelContext* context, const Tensor& x, int step, Uniform* call) const {
    *call = call_;
    const Tensor& steps = context->input(step);
    const Tensor& offsets = context->input(step + 1);
    call->channels = steps.NumElements();
    call->step = floats(steps);
    call->offset = offsets.NumElements() ? floats(offsets) : nullptr;
    if (call->offset && offsets.NumElements() != call->channels) {
      context->SetStatus(absl::InvalidArgumentError("as many offsets as steps, or none"));
      return false;
    }
    return columns_fit(context, x, call->channels);
  }

  const Kernels& kernels_;
  Uniform call_{};
};

class UniformLevels : public UniformKernel {
 public:
  using UniformKernel::UniformKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    Uniform call;
    Tensor* y;
    if (!complete(context, x, 1, &call) || !output_like(context, {0}, &y)) return;
    const Parts parts(x.NumElements(), call.channels, kernels_.lanes);
    parts.run(context, [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      kernels_.uniform(call, parts.part(number), floats(x) + begin, floats(y) + begin);
    });
  }
};

class UniformGradient : public UniformKernel {
 public:
  explicit UniformGradient(OpKernelConstruction* context) : UniformKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("delta", &call_.delta));
    OP_REQUIRES_OK(context, context->GetAttr("clip_ends", &call_.clip_ends));
    OP_REQUIRES_OK(context, context->GetAttr("inner", &call_.inner));
    std::string passes;
    OP_REQUIRES_OK(context, context->GetAttr("passes", &passes));
    call_.passes_all = passes == "all";
    call_.passes_ends = passes == "closed";
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& upstream = context->input(0);
    const Tensor& x = context->input(1);
    OP_REQUIRES(context, upstream.NumElements() == x.NumElements(),
                absl::InvalidArgumentError("a gradient for each value"));
    Uniform call;
    Tensor* y;
    if (!complete(context, x, 2, &call) || !output_like(context, {0, 1}, &y)) return;
    const Parts parts(x.NumElements(), call.channels, kernels_.lanes);
    PartTables tables(parts, 2, 1, kernels_.lanes);
    parts.run(context, [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      kernels_.uniform_gradient(call, parts.part(number), floats(upstream) + begin,
                                floats(x) + begin, floats(y) + begin, tables.of_part(number));
    });
    for (int which = 0; which < 2; ++which) {
      Tensor* sums;
      OP_REQUIRES_OK(context, context->allocate_output(1 + which, {call.channels}, &sums));
      for (int64_t channel = 0; channel < call.channels; ++channel) {
        sums->vec<float>()(channel) = float(tables.total(which, channel));
      }
    }
  }
};

absl::Status like_first(InferenceContext* context) {
  context->set_output(0, context->input(0));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("SwitchableEncode")
    .Input("x: T")
    .Input("thresholds: float")
    .Input("levels: float")
    .Output("y: T")
    .Output("mask: uint8")
    .Output("table: double")
    .Attr("T: {float, bfloat16}")
    .Attr("relu: bool")
    .Attr("keeps_nan: bool")
    .Attr("collect: bool")
    .Attr("inside: {'none', 'below', 'positive', 'symmetric'}")
    .SetShapeFn([](InferenceContext* context) {
      bool collect;
      TF_RETURN_IF_ERROR(context->GetAttr("collect", &collect));
      tensorflow::shape_inference::DimensionHandle height = context->MakeDim(int64_t{0});
      if (collect) {
        TF_RETURN_IF_ERROR(
            context->Multiply(context->Dim(context->input(2), 0), int64_t{2}, &height));
      }
      context->set_output(0, context->input(0));
      context->set_output(1, context->Vector(InferenceContext::kUnknownDim));
      context->set_output(2, context->Matrix(height, context->Dim(context->input(2), 1)));
      return absl::OkStatus();
    });

REGISTER_OP("SwitchableMasked")
    .Input("upstream: T")
    .Input("mask: uint8")
    .Output("y: T")
    .Attr("T: {float, bfloat16}")
    .SetShapeFn(like_first);

REGISTER_OP("SwitchableCellSums")
    .Input("x: float")
    .Input("values: float")
    .Input("thresholds: float")
    .Output("sums: double")
    .SetShapeFn([](InferenceContext* context) {
      tensorflow::shape_inference::DimensionHandle count;
      TF_RETURN_IF_ERROR(context->Add(context->Dim(context->input(2), 0), int64_t{1}, &count));
      context->set_output(0, context->Vector(count));
      return absl::OkStatus();
    });

REGISTER_OP("SwitchableUniform")
    .Input("x: float")
    .Input("step: float")
    .Input("offset: float")
    .Output("y: float")
    .Attr("low: float")
    .Attr("high: float")
    .Attr("relu: bool")
    .SetShapeFn(like_first);

REGISTER_OP("SwitchableUniformGradient")
    .Input("upstream: float")
    .Input("x: float")
    .Input("step: float")
    .Input("offset: float")
    .Output("toward_x: float")
    .Output("toward_step: float")
    .Output("toward_offset: float")
    .Attr("low: float")
    .Attr("high: float")
    .Attr("relu: bool")
    .Attr("delta: float")
    .Attr("passes: {'closed', 'open', 'all'}")
    .Attr("clip_ends: bool")
    .Attr("inner: bool")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(1));
      context->set_output(1, context->input(2));
      context->set_output(2, context->input(2));
      return absl::OkStatus();
    });

#define ON_CPU(NAME, KERNEL) \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(tensorflow::DEVICE_CPU), KERNEL)

ON_CPU("SwitchableEncode", Encode);
ON_CPU("SwitchableMasked", Masked);
ON_CPU("SwitchableCellSums", CellSums);
ON_CPU("SwitchableUniform", UniformLevels);
ON_CPU("SwitchableUniformGradient", UniformGradient);
