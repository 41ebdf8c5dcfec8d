// One layer of independent long short-term memories ("strands") over sequences that are padded at
// the end, forward and backward: fusionkit's operators lstm and lstm_backward on float32 in main
// memory. Strands share the lengths; a bidirectional layer is two strands over one input.
//
// Samples are independent, so a strand's samples can be split on threads in any way: every element
// of a result is summed in an order that does not depend on the split.
#pragma once

#include <cstdint>

namespace fusionkit {

// Panels of packed weights and rows of gate gradients are padded to whole vectors of the widest
// instruction set.
constexpr int64_t kLstmPadding = 16;

// Most samples that one call of the forward or backward recurrence takes.
constexpr int64_t kLstmRanks = 64;

// Calls of the weights' gradient begin at a multiple of this row, and take at most so many.
constexpr int64_t kLstmRowUnit = 48;
constexpr int64_t kLstmMostRows = 192;

// Numbers of scratch memory that a call of the weights' gradient needs.
constexpr int64_t kLstmScratch = 256 * kLstmMostRows;

// A (B, T, N) tensor with N contiguous; strides in elements.
template <class T>
struct LstmRows {
  T* data;
  int64_t batch_stride;
  int64_t time_stride;

  T* at(int64_t sample, int64_t time) const {
    return data + sample * batch_stride + time * time_stride;
  }
};

// Samples from the longest to the shortest, so that those with a step left come first.
struct LstmBatch {
  int64_t batch;
  int64_t time;
  const int64_t* order;    // (B,) sample of each rank
  const int64_t* lengths;  // (B,) length of each rank
};

struct LstmStrand {
  int64_t input_size;   // D
  int64_t hidden_size;  // H
  bool reverse;         // starts at the last valid step of each sample
  LstmRows<const float> x;
  const float* packed_ih;  // W_ih^T (D, 4H) in panels
  const float* packed_hh;  // W_hh^T (H, 4H) in panels
  const float* bias;       // (4H,) sum of both biases
  LstmRows<float> output;  // H columns
  // (B, T, 5H): activated gates i, f, g, o and the cell state; written at valid steps only.
  LstmRows<float> steps;
  float* state;  // (2, B, H): h and c after the last valid step
};

struct LstmStrandGradients {
  LstmRows<const float> output;  // upstream
  const float* state;            // upstream of (2, B, H), or null
  const float* packed_ih;        // W_ih (4H, D) in panels
  const float* packed_hh;        // W_hh (4H, H) in panels
  // Gradients of the gates before activation, at valid steps only: 4H columns, and as many behind
  // them as round up to kLstmPadding, which are read but do not count.
  LstmRows<float> gates;
  float* carried;  // (2, B, H) by rank: gradients of h and c on their way back
  float* w_ih;     // (4H, D)
  float* w_hh;     // (4H, H)
  float* b_ih;     // (4H,)
  float* b_hh;     // (4H,)
};

// Matrix (depth, columns) with these strides into panels of some vectors of columns each, columns
// padded with zeros: at most depth * (columns rounded up to kLstmPadding) numbers.
using LstmPack = void(const float* matrix, int64_t row_stride, int64_t column_stride, int64_t depth,
                      int64_t columns, float* packed);

// Outputs, steps and states of the ranks [begin, end), padding included.
using LstmForward = void(const LstmBatch& batch, const LstmStrand& strand, int64_t begin,
                         int64_t end);

// Gradients of the gates of the ranks [begin, end).
using LstmBackward = void(const LstmBatch& batch, const LstmStrand& strand,
                          const LstmStrandGradients& grads, int64_t begin, int64_t end);

// From the gradients of the gates of the strands that read one input: that of the input, for the
// ranks [begin, end), padding included. `grad_x` is (B, T, D).
using LstmInputGradient = void(const LstmBatch& batch, int strands, const LstmStrand* strand,
                               const LstmStrandGradients* grads, const LstmRows<float>& grad_x,
                               int64_t begin, int64_t end);

// From the gradients of the gates: those of the rows [begin, end) of the weights and biases.
using LstmWeightGradient = void(const LstmBatch& batch, const LstmStrand& strand,
                                const LstmStrandGradients& grads, int64_t begin, int64_t end,
                                float* scratch);

#define FUSIONKIT_LSTM_LEVEL(level)        \
  namespace level {                        \
  LstmPack lstm_pack;                      \
  LstmForward lstm_forward;                \
  LstmBackward lstm_backward;              \
  LstmInputGradient lstm_input_gradient;   \
  LstmWeightGradient lstm_weight_gradient; \
  }

FUSIONKIT_LSTM_LEVEL(base)
FUSIONKIT_LSTM_LEVEL(avx2)
FUSIONKIT_LSTM_LEVEL(avx512)

#undef FUSIONKIT_LSTM_LEVEL

}  // namespace fusionkit
