// Operations of what quantizers learn beside steps.
#include <numeric>

#include "parts.h"

namespace {

// What gradients have in common: upstream ones, values and what else there is for each value, such
// as its level, give gradients of the values, and a table of sums.
class Learned : public OpKernel {
 public:
  explicit Learned(OpKernelConstruction* context) : OpKernel(context), kernels_(chosen()) {}

 protected:
  // Sums [height] over all parts; empty where something does not fit. The work of a part takes
  // where it begins, its size, gradients of the values and a table; the first inputs have a number
  // for each value.
  template <class Work>
  std::vector<double> sums(OpKernelContext* context, int inputs, int64_t height,
                           const Work& work) {
    const int64_t size = context->input(1).NumElements();
    for (int number = 0; number < inputs; ++number) {
      if (context->input(number).NumElements() == size) continue;
      context->SetStatus(absl::InvalidArgumentError("a gradient and a level for each value"));
      return {};
    }
    std::vector<int> reusable(inputs);
    std::iota(reusable.begin(), reusable.end(), 0);
    Tensor* toward_x;
    if (!output_like(context, reusable, &toward_x)) return {};
    const Parts parts(size, 1, kernels_.lanes);
    PartTables tables(parts, 1, height, kernels_.lanes);
    run(context, parts.count(), parts.cost(), [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      const int64_t values = parts.part(number).stride;
      work(begin, values, floats(toward_x) + begin, tables.of_part(number));
    });
    std::vector<double> found(height);
    for (int64_t row = 0; row < height; ++row) found[row] = tables.total(row, 0);
    return found;
  }

  // An input from a value on.
  static const float* from(OpKernelContext* context, int input, int64_t begin) {
    return floats(context->input(input)) + begin;
  }

  const Kernels& kernels_;
};

class ClipGradient : public Learned {
 public:
  explicit ClipGradient(OpKernelConstruction* context) : Learned(context) {
    OP_REQUIRES_OK(context, context->GetAttr("low", &call_.low));
    OP_REQUIRES_OK(context, context->GetAttr("steps", &call_.steps));
    OP_REQUIRES_OK(context, context->GetAttr("everywhere", &call_.everywhere));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& clip = context->input(3);
    OP_REQUIRES(context, clip.NumElements() == 1, absl::InvalidArgumentError("one clip"));
    Clip call = call_;
    call.clip = floats(clip)[0];
    const auto work = [&](int64_t begin, int64_t size, float* toward_x, double* table) {
      kernels_.clip_gradient(call, size, from(context, 0, begin), from(context, 1, begin),
                             from(context, 2, begin), toward_x, table);
    };
    const std::vector<double> found = sums(context, 3, 1, work);
    if (found.empty()) return;
    Tensor* toward_clip;
    OP_REQUIRES_OK(context, context->allocate_output(1, {1}, &toward_clip));
    toward_clip->vec<float>()(0) = float(found[0]);
  }

 private:
  Clip call_{};
};

// Attributes and numbers that an interval and its gradient share.
class IntervalKernel : public Learned {
 public:
  explicit IntervalKernel(OpKernelConstruction* context) : Learned(context) {
    OP_REQUIRES_OK(context, context->GetAttr("steps", &call_.steps));
    OP_REQUIRES_OK(context, context->GetAttr("centred", &call_.centred));
    OP_REQUIRES_OK(context, context->GetAttr("relu", &call_.relu));
  }

 protected:
  bool complete(OpKernelContext* context, int lower, Interval* call) const {
    const Tensor& end = context->input(lower);
    const Tensor& width = context->input(lower + 1);
    if (end.NumElements() != 1 || width.NumElements() != 1) {
      context->SetStatus(absl::InvalidArgumentError("one lower end and one width"));
      return false;
    }
    *call = call_;
    call->lower = floats(end)[0];
    call->width = floats(width)[0];
    return true;
  }

  Interval call_{};
};

class IntervalLevels : public IntervalKernel {
 public:
  using IntervalKernel::IntervalKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    Interval call;
    Tensor* y;
    if (!complete(context, 1, &call) || !output_like(context, {0}, &y)) return;
    const Parts parts(x.NumElements(), 1, kernels_.lanes);
    run(context, parts.count(), parts.cost(), [&](int64_t number) {
      const int64_t begin = parts.begin(number);
      kernels_.interval(call, parts.part(number).stride, floats(x) + begin, floats(y) + begin);
    });
  }
};

class IntervalGradient : public IntervalKernel {
 public:
  explicit IntervalGradient(OpKernelConstruction* context) : IntervalKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("delta", &call_.delta));
  }

  void Compute(OpKernelContext* context) override {
    Interval call;
    if (!complete(context, 2, &call)) return;
    const auto work = [&](int64_t begin, int64_t size, float* toward_x, double* table) {
      kernels_.interval_gradient(call, size, from(context, 0, begin), from(context, 1, begin),
                                 toward_x, table);
    };
    const std::vector<double> found = sums(context, 2, 2, work);
    if (found.empty()) return;
    for (int which = 0; which < 2; ++which) {
      Tensor* sum;
      OP_REQUIRES_OK(context, context->allocate_output(1 + which, {1}, &sum));
      sum->vec<float>()(0) = float(found[which]);
    }
  }
};

class LineGradient : public Learned {
 public:
  using Learned::Learned;

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
    const auto work = [&](int64_t begin, int64_t size, float* toward_x, double* table) {
      kernels_.line_gradient(call, size, from(context, 0, begin), from(context, 1, begin),
                             from(context, 2, begin), toward_x, table);
    };
    const std::vector<double> found = sums(context, 3, height, work);
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

REGISTER_OP("SwitchableInterval")
    .Input("x: float")
    .Input("lower: float")
    .Input("width: float")
    .Output("y: float")
    .Attr("steps: float")
    .Attr("centred: bool")
    .Attr("relu: bool")
    .SetShapeFn(like_first);

REGISTER_OP("SwitchableIntervalGradient")
    .Input("upstream: float")
    .Input("x: float")
    .Input("lower: float")
    .Input("width: float")
    .Output("toward_x: float")
    .Output("toward_lower: float")
    .Output("toward_width: float")
    .Attr("steps: float")
    .Attr("centred: bool")
    .Attr("relu: bool")
    .Attr("delta: float")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(1));
      context->set_output(1, context->Vector(1));
      context->set_output(2, context->Vector(1));
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
ON_CPU("SwitchableInterval", IntervalLevels);
ON_CPU("SwitchableIntervalGradient", IntervalGradient);
ON_CPU("SwitchableLineGradient", LineGradient);
