// Operations that encode against thresholds, and the choice of kernels.
#include <cstdlib>

#include "parts.h"

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
    run(context, parts.count(), parts.cost(), [&](int64_t number) {
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
    run(context, parts.count(), parts.cost(), [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      kernels_.masked(bf16, parts.part(number).stride, bytes(upstream) + begin * width,
                      mask.flat<uint8_t>().data() + begin / 8, bytes(y) + begin * width);
    });
  }

 private:
  const Kernels& kernels_;
};

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

ON_CPU("SwitchableEncode", Encode);
ON_CPU("SwitchableMasked", Masked);
