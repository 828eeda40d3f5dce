// Operations of uniform quantizers.
#include "parts.h"

namespace {

// Attributes and numbers that a uniform quantizer and its gradient share.
class UniformKernel : public OpKernel {
 public:
  explicit UniformKernel(OpKernelConstruction* context) : OpKernel(context), kernels_(chosen()) {
    OP_REQUIRES_OK(context, context->GetAttr("low", &call_.low));
    OP_REQUIRES_OK(context, context->GetAttr("high", &call_.high));
    OP_REQUIRES_OK(context, context->GetAttr("relu", &call_.relu));
    OP_REQUIRES_OK(context, context->GetAttr("rounds_first", &call_.rounds_first));
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
    run(context, parts.count(), parts.cost(), [&](int64_t number) {
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
    run(context, parts.count(), parts.cost(), [&](int64_t number) {
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

}  // namespace

REGISTER_OP("SwitchableUniform")
    .Input("x: float")
    .Input("step: float")
    .Input("offset: float")
    .Output("y: float")
    .Attr("low: float")
    .Attr("high: float")
    .Attr("relu: bool")
    .Attr("rounds_first: bool")
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
    .Attr("rounds_first: bool")
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

ON_CPU("SwitchableUniform", UniformLevels);
ON_CPU("SwitchableUniformGradient", UniformGradient);
