// Operations of bases: their sorted sums, and the normal equations of a refit.
#include "parts.h"

namespace {

using tensorflow::OpInputList;
using tensorflow::shape_inference::DimensionHandle;

// Neighbouring channels whose numbers lie in the same lines of memory.
constexpr int64_t kTogether = 16;

class Grid : public OpKernel {
 public:
  explicit Grid(OpKernelConstruction* context) : OpKernel(context), kernels_(chosen()) {
    OP_REQUIRES_OK(context, context->GetAttr("low", &low_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& input = context->input(0);
    OP_REQUIRES(context,
                input.dims() == 2 && input.dim_size(0) > 0 && input.dim_size(0) <= kMostBits,
                absl::InvalidArgumentError("a basis is [K, C], K from 1 to 8"));
    const int bits = int(input.dim_size(0));
    const int64_t count = int64_t(1) << bits;
    const int64_t channels = input.dim_size(1);
    Tensor *levels, *thresholds, *codes;
    OP_REQUIRES_OK(context, context->allocate_output(0, {count, channels}, &levels));
    OP_REQUIRES_OK(context, context->allocate_output(1, {count - 1, channels}, &thresholds));
    OP_REQUIRES_OK(context, context->allocate_output(2, {channels, count}, &codes));
    const float* values = input.flat<float>().data();
    const Basis basis{bits, channels, values, low_};
    const int lanes = kernels_.lanes;
    run(context, (channels + lanes - 1) / lanes, 40 * count * lanes, [&](int64_t group) {
      kernels_.grid(basis, group * lanes, levels->flat<float>().data(),
                    thresholds->flat<float>().data(), codes->flat<int32_t>().data());
    });
  }

 private:
  const Kernels& kernels_;
  float low_;
};

// B'B and B'x of codes from the counts and sums of their levels.
class NormalEquations : public OpKernel {
 public:
  explicit NormalEquations(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("bits", &bits_));
    OP_REQUIRES_OK(context, context->GetAttr("lows", &lows_));
    OP_REQUIRES(context, bits_ > 0 && bits_ <= kMostBits,
                absl::InvalidArgumentError("1 to 8 bits"));
  }

  void Compute(OpKernelContext* context) override {
    OpInputList tables, codes;
    OP_REQUIRES_OK(context, context->input_list("tables", &tables));
    OP_REQUIRES_OK(context, context->input_list("codes", &codes));
    const int64_t count = int64_t(1) << bits_;
    std::vector<Block> blocks;
    int64_t all = 0;
    OP_REQUIRES(context, int64_t(lows_.size()) == tables.size(),
                absl::InvalidArgumentError("a low code for each table"));
    for (int basis = 0; basis < tables.size(); ++basis) {
      const int64_t channels = codes[basis].dim_size(0);
      OP_REQUIRES(context,
                  codes[basis].shape() == TensorShape({channels, count}) &&
                      tables[basis].shape() == TensorShape({2 * count, channels}),
                  absl::InvalidArgumentError("tables are [2 L, C], codes [C, L]"));
      const auto code = codes[basis].flat<int32_t>();
      const bool known = std::all_of(code.data(), code.data() + code.size(),
                                     [count](int32_t one) { return one >= 0 && one < count; });
      OP_REQUIRES(context, known, absl::InvalidArgumentError("codes are from 0 to L - 1"));
      for (int64_t first = 0; first < channels; first += kTogether) {
        blocks.push_back({basis, first, std::min(kTogether, channels - first), all + first});
      }
      all += channels;
    }
    Tensor *gram, *right, *total;
    OP_REQUIRES_OK(context, context->allocate_output(0, {all, bits_, bits_}, &gram));
    OP_REQUIRES_OK(context, context->allocate_output(1, {all, bits_}, &right));
    OP_REQUIRES_OK(context, context->allocate_output(2, {all}, &total));
    auto squares = gram->tensor<double, 3>();
    auto products = right->matrix<double>();
    auto number = total->vec<double>();
    run(context, blocks.size(), 4 * bits_ * count * kTogether, [&](int64_t at) {
      const Block& block = blocks[at];
      // Of codes, and then of sets of bits: sums over the codes times those bits of theirs.
      std::vector<double> counts(count * kTogether), sums(count * kTogether);
      read(block, tables[block.basis], codes[block.basis], counts.data(), sums.data());
      transform(lows_[block.basis], counts.data());
      transform(lows_[block.basis], sums.data());
      for (int64_t lane = 0; lane < block.lanes; ++lane) {
        const int64_t channel = block.place + lane;
        number(channel) = counts[lane];
        for (int i = 0; i < bits_; ++i) {
          products(channel, i) = sums[(kTogether << i) + lane];
          for (int j = 0; j < bits_; ++j) {
            // The square of -1 or 1 is 1.
            const int64_t same = lows_[block.basis] < 0 ? 0 : int64_t(1) << i;
            const int64_t set = i == j ? same : int64_t(1) << i | int64_t(1) << j;
            squares(channel, i, j) = counts[set * kTogether + lane];
          }
        }
      }
    });
  }

 private:
  // Neighbouring channels of a basis, and their place among those of all.
  struct Block {
    int basis;
    int64_t first;
    int64_t lanes;
    int64_t place;
  };

  // Counts and sums by code, [L][kTogether], from those of everything and above thresholds.
  void read(const Block& block, const Tensor& table, const Tensor& codes, double* counts,
            double* sums) const {
    const int64_t levels = int64_t(1) << bits_;
    const auto rows = table.matrix<double>();
    const auto code = codes.matrix<int32_t>();
    for (int64_t k = 0; k < levels; ++k) {
      for (int64_t lane = 0; lane < block.lanes; ++lane) {
        const int64_t channel = block.first + lane;
        double count = rows(k ? k + 1 : 0, channel);
        double sum = rows(k ? levels + k : 1, channel);
        if (k < levels - 1) {
          count -= rows(k + 2, channel);
          sum -= rows(levels + k + 1, channel);
        }
        // Rounding left in the sum of an empty level would be divided by the tiny ridge alone.
        const int64_t place = code(channel, k) * kTogether + lane;
        counts[place] = count > 0 ? count : 0;
        sums[place] = count > 0 ? sum : 0;
      }
    }
  }

  // Sums over codes without and with a bit become those over all, and over them times that bit.
  void transform(float low, double* sums) const {
    const int64_t size = kTogether << bits_;
    for (int64_t step = kTogether; step < size; step *= 2) {
      for (int64_t begin = 0; begin < size; begin += 2 * step) {
        double* without = sums + begin;
        double* with = without + step;
        for (int64_t i = 0; i < step; ++i) {
          const double unset = without[i];
          without[i] += with[i];
          if (low < 0) with[i] -= unset;
        }
      }
    }
  }

  int bits_;
  std::vector<float> lows_;
};

}  // namespace

REGISTER_OP("SwitchableGrid")
    .Input("basis: float")
    .Output("levels: float")
    .Output("thresholds: float")
    .Output("codes: int32")
    .Attr("low: float")
    .SetShapeFn([](InferenceContext* context) {
      tensorflow::shape_inference::ShapeHandle basis;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 2, &basis));
      DimensionHandle levels = context->UnknownDim(), thresholds = context->UnknownDim();
      const DimensionHandle bits = context->Dim(basis, 0), channels = context->Dim(basis, 1);
      if (context->ValueKnown(bits) && context->Value(bits) <= kMostBits) {
        levels = context->MakeDim(int64_t(1) << context->Value(bits));
        thresholds = context->MakeDim((int64_t(1) << context->Value(bits)) - 1);
      }
      context->set_output(0, context->Matrix(levels, channels));
      context->set_output(1, context->Matrix(thresholds, channels));
      context->set_output(2, context->Matrix(channels, levels));
      return absl::OkStatus();
    });

REGISTER_OP("SwitchableNormalEquations")
    .Input("tables: N * double")
    .Input("codes: N * int32")
    .Output("gram: double")
    .Output("right: double")
    .Output("counts: double")
    .Attr("N: int >= 1")
    .Attr("bits: int")
    .Attr("lows: list(float)")
    .SetShapeFn([](InferenceContext* context) {
      int64_t bits;
      TF_RETURN_IF_ERROR(context->GetAttr("bits", &bits));
      DimensionHandle channels = context->MakeDim(int64_t{0});
      for (int i = context->num_inputs() / 2; i < context->num_inputs(); ++i) {
        TF_RETURN_IF_ERROR(
            context->Add(channels, context->Dim(context->input(i), 0), &channels));
      }
      const DimensionHandle side = context->MakeDim(bits);
      context->set_output(0, context->MakeShape({channels, side, side}));
      context->set_output(1, context->Matrix(channels, side));
      context->set_output(2, context->Vector(channels));
      return absl::OkStatus();
    });

ON_CPU("SwitchableGrid", Grid);
ON_CPU("SwitchableNormalEquations", NormalEquations);
