// Operations of gradients toward what quantizers learn beside steps.
#include "parts.h"

namespace {

// What both have in common: upstream gradients, values and these at their levels give gradients of
// the values, and a table of sums.
class LearnedGradient : public OpKernel {
 public:
  explicit LearnedGradient(OpKernelConstruction* context)
      : OpKernel(context), kernels_(chosen()) {}

 protected:
  // Sums [height] over all parts; empty where something does not fit.
  template <class Call, class Kernel>
  std::vector<double> sums(OpKernelContext* context, const Call& call, Kernel kernel,
                           int64_t height) {
    const Tensor& upstream = context->input(0);
    const Tensor& x = context->input(1);
    const Tensor& y = context->input(2);
    if (upstream.NumElements() != x.NumElements() || y.NumElements() != x.NumElements()) {
      context->SetStatus(absl::InvalidArgumentError("a gradient and a level for each value"));
      return {};
    }
    Tensor* toward_x;
    if (!output_like(context, {0, 1, 2}, &toward_x)) return {};
    const Parts parts(x.NumElements(), 1, kernels_.lanes);
    PartTables tables(parts, 1, height, kernels_.lanes);
    run(context, parts.count(), parts.cost(), [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      kernel(call, parts.part(number).stride, floats(upstream) + begin, floats(x) + begin,
             floats(y) + begin, floats(toward_x) + begin, tables.of_part(number));
    });
    std::vector<double> found(height);
    for (int64_t row = 0; row < height; ++row) found[row] = tables.total(row, 0);
    return found;
  }

  const Kernels& kernels_;
};

class ClipGradient : public LearnedGradient {
 public:
  explicit ClipGradient(OpKernelConstruction* context) : LearnedGradient(context) {
    OP_REQUIRES_OK(context, context->GetAttr("low", &call_.low));
    OP_REQUIRES_OK(context, context->GetAttr("steps", &call_.steps));
    OP_REQUIRES_OK(context, context->GetAttr("everywhere", &call_.everywhere));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& clip = context->input(3);
    OP_REQUIRES(context, clip.NumElements() == 1, absl::InvalidArgumentError("one clip"));
    Clip call = call_;
    call.clip = floats(clip)[0];
    const std::vector<double> found = sums(context, call, kernels_.clip_gradient, 1);
    if (found.empty()) return;
    Tensor* toward_clip;
    OP_REQUIRES_OK(context, context->allocate_output(1, {1}, &toward_clip));
    toward_clip->vec<float>()(0) = float(found[0]);
  }

 private:
  Clip call_{};
};

class LineGradient : public LearnedGradient {
 public:
  using LearnedGradient::LearnedGradient;

  void Compute(OpKernelContext* context) override {
    const Tensor& ends = context->input(3);
    const Tensor& slopes = context->input(4);
    const Tensor& lowers = context->input(5);
    const Tensor& scales = context->input(6);
    const int64_t count = ends.NumElements();
    OP_REQUIRES(context,
                count > 0 && count <= kMostThresholds && slopes.NumElements() == count + 1 &&
                    lowers.NumElements() == count + 1 && scales.NumElements() == 2,
                absl::InvalidArgumentError("[L - 1] ends, [L] slopes and lower ends, 2 scales"));
    Line call{};
    call.count = int(count);
    call.ends = floats(ends);
    call.slopes = floats(slopes);
    call.lowers = floats(lowers);
    call.scale1 = floats(scales)[0];
    call.scale2 = floats(scales)[1];
    const int64_t height = 2 + 2 * (count + 1);
    const std::vector<double> found = sums(context, call, kernels_.line_gradient, height);
    if (found.empty()) return;
    Tensor *dots, *by_cell;
    OP_REQUIRES_OK(context, context->allocate_output(1, {2}, &dots));
    OP_REQUIRES_OK(context, context->allocate_output(2, {2, count + 1}, &by_cell));
    std::copy(found.begin(), found.begin() + 2, dots->flat<double>().data());
    std::copy(found.begin() + 2, found.end(), by_cell->flat<double>().data());
  }
};

}  // namespace

REGISTER_OP("SwitchableClipGradient")
    .Input("upstream: float")
    .Input("x: float")
    .Input("y: float")
    .Input("clip: float")
    .Output("toward_x: float")
    .Output("toward_clip: float")
    .Attr("low: float")
    .Attr("steps: float")
    .Attr("everywhere: bool")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(1));
      context->set_output(1, context->Vector(1));
      return absl::OkStatus();
    });

REGISTER_OP("SwitchableLineGradient")
    .Input("upstream: float")
    .Input("x: float")
    .Input("y: float")
    .Input("ends: float")
    .Input("slopes: float")
    .Input("lowers: float")
    .Input("scales: float")
    .Output("toward_x: float")
    .Output("dots: double")
    .Output("by_cell: double")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(1));
      context->set_output(1, context->Vector(2));
      context->set_output(2, context->Matrix(2, context->Dim(context->input(4), 0)));
      return absl::OkStatus();
    });

ON_CPU("SwitchableClipGradient", ClipGradient);
ON_CPU("SwitchableLineGradient", LineGradient);
