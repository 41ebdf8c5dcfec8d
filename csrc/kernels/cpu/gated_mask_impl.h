// The body of the gated mask, included once for each ISA level (isa_*.h): rows are put together to
// runs as long as the strides allow, and runs with dropout cut to pieces whose random numbers stay
// in the first-level cache.

#include "gated_mask_run.h"
#include "philox.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

// Elements of a piece with dropout, and room for what the last vectors of random words add.
constexpr int64_t kPiece = 1024;
constexpr int64_t kSpare = 4 * kLanes;

// What an element's sum of sigmoids is multiplied with: the mean, and dropout's 1 / (1 - p) on top.
float kept_share(const GatedMaskInputs& in) {
  return static_cast<float>(1.0 / (in.gate_count * (1.0 - in.dropout_p)));
}

// Fills the shares of `blocks` blocks of four columns in each of `rows` rows: `kept`, and 0 where
// dropout takes the element away.
void fill_padded_shares(const GatedMaskInputs& in, const PhiloxKeys& keys, int64_t batch,
                        int64_t time, int64_t rows, int64_t first_block, int64_t blocks,
                        float* share) {
  const auto kept = (Words<kLanes>)broadcast<kLanes>(kept_share(in));
  const auto threshold = philox_threshold(in.dropout_p);
  philox_rows<kLanes>(keys, static_cast<uint32_t>(batch), static_cast<uint32_t>(time), rows,
                      static_cast<uint32_t>(first_block), static_cast<uint32_t>(blocks),
                      [&](Words<kLanes> words) {
                        const auto keep = (Words<kLanes>)(words >= threshold);
                        store<kLanes>(share, (Floats<kLanes>)(keep & kept));
                        share += kLanes;
                      });
}

// The shares of `columns` columns in each of `rows` rows, one row after the other.
const float* fill_shares(const GatedMaskInputs& in, const PhiloxKeys& keys, int64_t batch,
                         int64_t time, int64_t rows, int64_t column, int64_t columns, float* padded,
                         float* dense) {
  const int64_t blocks = (columns + 3) / 4;
  fill_padded_shares(in, keys, batch, time, rows, column / 4, blocks, padded);
  if (rows == 1 || columns % 4 == 0) return padded;
  for (int64_t row = 0; row < rows; ++row) {
    // Whole vectors: what is too much gets overwritten by the next row.
    for (int64_t c = 0; c < columns; c += kLanes) {
      store<kLanes>(dense + row * columns + c, load<kLanes>(padded + 4 * row * blocks + c));
    }
  }
  return dense;
}

bool rows_touch(const GatedMaskInputs& in, const GatedMaskRows& rows) {
  return rows.time_stride == in.dim;
}

bool all_rows_touch(const GatedMaskInputs& in) {
  bool touch = rows_touch(in, in.x);
  for (int i = 0; i < in.gate_count; ++i) touch = touch && rows_touch(in, in.gates[i]);
  return touch;
}

// Calls work(run, batch, time, column, n, offset) for runs of valid elements: `run` has the shares,
// the first of the n elements is (batch, time, column) and has this offset in the outputs. Calls
// clear(offset, n) for padding.
template <class Work, class Clear>
FUSIONKIT_INLINE void for_each_run(const GatedMaskInputs& in, bool touch, int64_t begin,
                                   int64_t end, const Work& work, const Clear& clear) {
  const bool has_dropout = in.dropout_p > 0.0;
  const int64_t columns = has_dropout ? std::min(in.dim, kPiece) : in.dim;
  int64_t most_rows = 1;
  if (touch) most_rows = has_dropout ? std::max<int64_t>(1, kPiece / (in.dim + 3)) : in.time;
  float padded[kPiece + kSpare], dense[kPiece + kSpare];
  const PhiloxKeys keys = philox_keys(in.seed);
  MaskRun run{};
  run.kept = kept_share(in);
  for (int64_t row = begin; row < end;) {
    const int64_t batch = row / in.time, first = row % in.time;
    const int64_t last = std::min(in.time, first + end - row);
    int64_t valid = last;
    if (in.lengths != nullptr) valid = std::clamp(in.lengths[batch], first, last);
    for (int64_t time = first; time < valid; time += most_rows) {
      const int64_t rows = std::min(most_rows, valid - time);
      for (int64_t column = 0; column < in.dim; column += columns) {
        const int64_t width = std::min(columns, in.dim - column);
        if (has_dropout) {
          run.share = fill_shares(in, keys, batch, time, rows, column, width, padded, dense);
        }
        run.x = in.x.at(batch, time) + column;
        for (int i = 0; i < in.gate_count; ++i) {
          run.gates[i] = in.gates[i].at(batch, time) + column;
        }
        work(run, batch, time, column, rows * width, (row + time - first) * in.dim + column);
      }
    }
    clear((row + valid - first) * in.dim, (last - valid) * in.dim);
    row += last - first;
  }
}

}  // namespace

void gated_mask_forward(const GatedMaskInputs& in, float* out, int64_t begin, int64_t end) {
  const auto work = [&](MaskRun& run, int64_t, int64_t, int64_t, int64_t n, int64_t offset) {
    run.out = out + offset;
    work_on<false>(run, in.gate_count, n);
  };
  const auto clear = [&](int64_t offset, int64_t n) { std::fill_n(out + offset, n, 0.0f); };
  for_each_run(in, all_rows_touch(in), begin, end, work, clear);
}

void gated_mask_backward(const GatedMaskInputs& in, const GatedMaskRows& grad_out,
                         const GatedMaskGradients& grads, int64_t begin, int64_t end) {
  const auto at = [](float* grad, int64_t offset) {
    return grad == nullptr ? nullptr : grad + offset;
  };
  const auto work = [&](MaskRun& run, int64_t batch, int64_t time, int64_t column, int64_t n,
                        int64_t offset) {
    run.grad_out = grad_out.at(batch, time) + column;
    run.grad_x = at(grads.x, offset);
    for (int i = 0; i < in.gate_count; ++i) run.grad_gates[i] = at(grads.gates[i], offset);
    work_on<true>(run, in.gate_count, n);
  };
  const auto clear = [&](int64_t offset, int64_t n) {
    if (grads.x != nullptr) std::fill_n(grads.x + offset, n, 0.0f);
    for (int i = 0; i < in.gate_count; ++i) {
      if (grads.gates[i] != nullptr) std::fill_n(grads.gates[i] + offset, n, 0.0f);
    }
  };
  for_each_run(in, all_rows_touch(in) && rows_touch(in, grad_out), begin, end, work, clear);
}

}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
