// The body of the LSTM, included once for each ISA level (isa_*.h).
// Products over all valid steps (inputs, gradients) run in blocks of rows that stay in the
// second-level cache; the recurrent ones run step by step over the samples that have that step.

#include <algorithm>
#include <cstdint>

#include "lstm.h"
#include "lstm_cell.h"
#include "lstm_product.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

// Rows of a block of a product over all valid steps. It also bounds how many products are added up
// before they are added to a weight's gradient, and so the rounding error.
constexpr int64_t kBlockRows = 64;

// Columns of a weight whose gradient is summed at once.
constexpr int64_t kBlockColumns = 256;

static_assert(kLstmPadding % kLanes == 0, "packed panels fit into what callers allocate");
static_assert(kLstmRowUnit % kPanel == 0, "panels of weights begin where calls begin");
static_assert(kBlockColumns * kLstmMostRows <= kLstmScratch && kLstmMostRows % kLanes == 0,
              "the sums of the weights' gradients fit into the scratch memory");

// The time of a strand's step in a sample of this length.
int64_t time_of(const LstmStrand& strand, int64_t length, int64_t step) {
  return strand.reverse ? length - 1 - step : step;
}

// All valid steps from `first_step` on of the ranks [begin, end), rank by rank:
// add(slot, sample, length, step), and multiply(slots) after every kBlockRows of them and the rest.
template <class Add, class Multiply>
void in_blocks(const LstmBatch& batch, int64_t begin, int64_t end, int64_t first_step,
               const Add& add, const Multiply& multiply) {
  int64_t slot = 0;
  for (int64_t rank = begin; rank < end; ++rank) {
    const int64_t length = batch.lengths[rank];
    for (int64_t step = first_step; step < length; ++step) {
      add(slot, batch.order[rank], length, step);
      if (++slot == kBlockRows) {
        multiply(slot);
        slot = 0;
      }
    }
  }
  if (slot > 0) multiply(slot);
}

// The end of those of the ranks [begin, end) that have this step; the longest come first.
int64_t end_of_active(const LstmBatch& batch, int64_t begin, int64_t end, int64_t step) {
  while (end > begin && batch.lengths[end - 1] <= step) --end;
  return end;
}

// Gates before activation without their recurrent part: W_ih x + bias.
void project_inputs(const LstmBatch& batch, const LstmStrand& strand, int64_t begin, int64_t end) {
  const float* x[kBlockRows];
  float* gates[kBlockRows];
  const float* bias[kBlockRows];
  std::fill_n(bias, kBlockRows, strand.bias);
  in_blocks(
      batch, begin, end, 0,
      [&](int64_t slot, int64_t sample, int64_t, int64_t time) {
        x[slot] = strand.x.at(sample, time);
        gates[slot] = strand.steps.at(sample, time);
      },
      [&](int64_t rows) {
        multiply(rows, x, strand.input_size, strand.packed_ih, 4 * strand.hidden_size, bias, gates);
      });
}

// The final state of a sample, and zeros as output on its padding.
void finish_sample(const LstmBatch& batch, const LstmStrand& strand, int64_t rank) {
  const int64_t hidden = strand.hidden_size, length = batch.lengths[rank];
  const int64_t sample = batch.order[rank];
  float* h = strand.state + sample * hidden;
  float* c = h + batch.batch * hidden;
  if (length > 0) {
    const int64_t time = time_of(strand, length, length - 1);
    std::copy_n(strand.output.at(sample, time), hidden, h);
    std::copy_n(strand.steps.at(sample, time) + 4 * hidden, hidden, c);
  } else {
    std::fill_n(h, hidden, 0.0f);
    std::fill_n(c, hidden, 0.0f);
  }
  for (int64_t time = length; time < batch.time; ++time) {
    std::fill_n(strand.output.at(sample, time), hidden, 0.0f);
  }
}

// sums += transposed rows of `factors` (columns) times rows of `gates`, for the rows [begin, end)
// of a weight, panel by panel of (columns, panel).
void add_products(int64_t columns, int64_t depth, const float* const* factors,
                  const float* const* gates, int64_t begin, int64_t end, float* sums) {
  alignas(64) float packed[kBlockRows * kPanel];
  for (int64_t row = begin; row < end; row += kPanel) {
    const int64_t vectors = vectors_of(std::min(kPanel, end - row));
    if (vectors == kPanelVectors) {
      multiply_transposed<kPanelVectors>(columns, depth, factors, gates, row, packed, sums);
    } else if (vectors == 2) {
      multiply_transposed<2>(columns, depth, factors, gates, row, packed, sums);
    } else {
      multiply_transposed<1>(columns, depth, factors, gates, row, packed, sums);
    }
    sums += columns * vectors * kLanes;
  }
}

// Rows [begin, end) of the gradient of w_ih, or of w_hh, into `grad`, some columns at a time so
// that all that a block of steps needs stays in the second-level cache.
void weight_gradient(const LstmBatch& batch, const LstmStrand& strand,
                     const LstmStrandGradients& grads, bool recurrent, int64_t begin, int64_t end,
                     float* grad, float* sums) {
  const int64_t all_columns = recurrent ? strand.hidden_size : strand.input_size;
  const float* gates[kBlockRows];
  const float* factors[kBlockRows];
  for (int64_t column = 0; column < all_columns; column += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, all_columns - column);
    std::fill_n(sums, columns * vectors_of(end - begin) * kLanes, 0.0f);
    in_blocks(
        batch, 0, batch.batch, recurrent ? 1 : 0,
        [&](int64_t slot, int64_t sample, int64_t length, int64_t step) {
          const int64_t time = time_of(strand, length, step);
          gates[slot] = grads.gates.at(sample, time);
          factors[slot] =
              column + (recurrent ? strand.output.at(sample, time_of(strand, length, step - 1))
                                  : strand.x.at(sample, time));
        },
        [&](int64_t depth) { add_products(columns, depth, factors, gates, begin, end, sums); });
    const float* panel = sums;
    for (int64_t row = begin; row < end; row += kPanel) {
      const int64_t rows = std::min(kPanel, end - row);
      const int64_t width = vectors_of(rows) * kLanes;
      write_transposed(panel, width, rows, columns, grad + row * all_columns + column, all_columns);
      panel += columns * width;
    }
  }
}

// Rows [begin, end) of the gradient of both biases.
void bias_gradient(const LstmBatch& batch, const LstmStrand& strand,
                   const LstmStrandGradients& grads, int64_t begin, int64_t end) {
  const float* gates[kBlockRows];
  for (int64_t row = begin; row < end; row += kLanes) {
    Floats<kLanes> total{};
    in_blocks(
        batch, 0, batch.batch, 0,
        [&](int64_t slot, int64_t sample, int64_t length, int64_t step) {
          gates[slot] = grads.gates.at(sample, time_of(strand, length, step)) + row;
        },
        [&](int64_t depth) {
          Floats<kLanes> sum{};
          for (int64_t k = 0; k < depth; ++k) sum += load<kLanes>(gates[k]);
          total += sum;
        });
    store_part(grads.b_ih + row, total, end - row);
    store_part(grads.b_hh + row, total, end - row);
  }
}

}  // namespace

void lstm_pack(const float* matrix, int64_t row_stride, int64_t column_stride, int64_t depth,
               int64_t columns, float* packed) {
  pack(matrix, row_stride, column_stride, depth, columns, packed);
}

void lstm_forward(const LstmBatch& batch, const LstmStrand& strand, int64_t begin, int64_t end) {
  project_inputs(batch, strand, begin, end);
  const int64_t hidden = strand.hidden_size;
  const float* before[kLstmRanks];
  float* steps[kLstmRanks];
  int64_t active = end;
  for (int64_t step = 0; begin < end && step < batch.lengths[begin]; ++step) {
    active = end_of_active(batch, begin, active, step);
    for (int64_t rank = begin; rank < active; ++rank) {
      const int64_t sample = batch.order[rank], length = batch.lengths[rank];
      steps[rank - begin] = strand.steps.at(sample, time_of(strand, length, step));
      if (step > 0) {
        before[rank - begin] = strand.output.at(sample, time_of(strand, length, step - 1));
      }
    }
    if (step > 0) {
      multiply(active - begin, before, hidden, strand.packed_hh, 4 * hidden, steps, steps);
    }
    for (int64_t rank = begin; rank < active; ++rank) {
      const int64_t sample = batch.order[rank], length = batch.lengths[rank];
      const float* previous =
          step == 0 ? nullptr
                    : strand.steps.at(sample, time_of(strand, length, step - 1)) + 4 * hidden;
      float* own = steps[rank - begin];
      float* h = strand.output.at(sample, time_of(strand, length, step));
      for_all_units(CellForward{hidden, own, previous, own + 4 * hidden, h});
    }
  }
  for (int64_t rank = begin; rank < end; ++rank) finish_sample(batch, strand, rank);
}

void lstm_backward(const LstmBatch& batch, const LstmStrand& strand,
                   const LstmStrandGradients& grads, int64_t begin, int64_t end) {
  const int64_t hidden = strand.hidden_size;
  float* grad_h[kLstmRanks];
  float* grad_c[kLstmRanks];
  const float* gates[kLstmRanks];
  for (int64_t rank = begin; rank < end; ++rank) {
    for (int part = 0; part < 2; ++part) {
      float* carried = grads.carried + (part * batch.batch + rank) * hidden;
      (part == 0 ? grad_h : grad_c)[rank - begin] = carried;
      if (grads.state == nullptr) {
        std::fill_n(carried, hidden, 0.0f);
      } else {
        const int64_t row = part * batch.batch + batch.order[rank];
        std::copy_n(grads.state + row * hidden, hidden, carried);
      }
    }
  }
  const int64_t steps = begin < end ? batch.lengths[begin] : 0;
  for (int64_t step = steps - 1; step >= 0; --step) {
    const int64_t active = end_of_active(batch, begin, end, step);
    for (int64_t rank = begin; rank < active; ++rank) {
      const int64_t sample = batch.order[rank], length = batch.lengths[rank];
      const int64_t time = time_of(strand, length, step);
      const float* own = strand.steps.at(sample, time);
      const float* previous =
          step == 0 ? nullptr
                    : strand.steps.at(sample, time_of(strand, length, step - 1)) + 4 * hidden;
      float* grad_gates = grads.gates.at(sample, time);
      for_all_units(CellBackward{hidden, own, own + 4 * hidden, previous,
                                 grads.output.at(sample, time), grad_h[rank - begin],
                                 grad_c[rank - begin], grad_gates});
      gates[rank - begin] = grad_gates;
    }
    if (step > 0) {
      multiply(active - begin, gates, 4 * hidden, grads.packed_hh, hidden, nullptr, grad_h);
    }
  }
}

void lstm_input_gradient(const LstmBatch& batch, int strands, const LstmStrand* strand,
                         const LstmStrandGradients* grads, const LstmRows<float>& grad_x,
                         int64_t begin, int64_t end) {
  const int64_t inputs = strand->input_size;
  float* out[kBlockRows];
  const float* gates[kBlockRows];
  for (int s = 0; s < strands; ++s) {
    in_blocks(
        batch, begin, end, 0,
        [&](int64_t slot, int64_t sample, int64_t, int64_t time) {
          gates[slot] = grads[s].gates.at(sample, time);
          out[slot] = grad_x.at(sample, time);
        },
        [&](int64_t rows) {
          multiply(rows, gates, 4 * strand[s].hidden_size, grads[s].packed_ih, inputs,
                   s == 0 ? nullptr : out, out);
        });
  }
  for (int64_t rank = begin; rank < end; ++rank) {
    for (int64_t time = batch.lengths[rank]; time < batch.time; ++time) {
      std::fill_n(grad_x.at(batch.order[rank], time), inputs, 0.0f);
    }
  }
}

void lstm_weight_gradient(const LstmBatch& batch, const LstmStrand& strand,
                          const LstmStrandGradients& grads, int64_t begin, int64_t end,
                          float* scratch) {
  weight_gradient(batch, strand, grads, false, begin, end, grads.w_ih, scratch);
  weight_gradient(batch, strand, grads, true, begin, end, grads.w_hh, scratch);
  bias_gradient(batch, strand, grads, begin, end);
}

}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
