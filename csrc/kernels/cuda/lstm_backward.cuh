// The recurrence backward through time: see lstm_block.cuh.
#pragma once

#include "lstm_block.cuh"

namespace fusionkit::cuda {

// The thread's part of W_hh: kLstmDepth gates of the step after, four units.
__device__ __forceinline__ void lstm_backward_weights(const LstmBackwardPiece& piece,
                                                      const LstmPlace& place, int group, int first,
                                                      float (&weights)[4 * kLstmDepth]) {
  const int unit = 4 * group;
  const int hidden = piece.hidden_size;
#pragma unroll
  for (int k = 0; k < kLstmDepth; ++k) {
    const float* row = piece.w_hh + static_cast<int64_t>(first + k) * hidden + place.first_unit;
#pragma unroll
    for (int out = 0; out < 4; ++out) {
      const bool is_there = unit + out < place.units && first + k < 4 * hidden;
      weights[out * kLstmDepth + k] = is_there ? row[unit + out] : 0.0f;
    }
  }
}

// Zeros on the padding of the block's rows.
__device__ inline void lstm_backward_padding(const LstmBackwardCall& call,
                                             const LstmBackwardPiece& piece, const LstmPlace& place,
                                             const int* lengths) {
  const int hidden = piece.hidden_size;
  for (int row = 0; row < place.rows; ++row) {
    const int64_t sample = place.first_row + row;
    const int left = (call.time - lengths[row]) * place.units;
    for (int i = threadIdx.x; i < left; i += kLstmThreads) {
      const int64_t in_time = sample * call.time + lengths[row] + i / place.units;
      const int unit = place.first_unit + i % place.units;
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) {
        piece.grad_gates[in_time * 4 * hidden + gate * hidden + unit] = 0.0f;
      }
      piece.previous[in_time * hidden + unit] = 0.0f;
    }
  }
}

// What the gradient of one unit of one row needs besides the product.
struct LstmSaved {
  float i, f, g, o, c;
  float before_c, before_h;  // of the step before
  float grad_h;              // from the output
};

__device__ inline LstmSaved lstm_saved(const LstmBackwardPiece& piece, int64_t in_time,
                                       int64_t in_time_before, bool is_first, int unit) {
  const int hidden = piece.hidden_size;
  const float* steps = piece.steps + in_time * 5 * hidden + unit;
  LstmSaved saved = {steps[0], steps[hidden], steps[2 * hidden], steps[3 * hidden],
                     steps[4 * hidden]};
  saved.grad_h = piece.grad_output[in_time * piece.columns + unit];
  if (!is_first) {
    saved.before_c = piece.steps[(in_time_before * 5 + 4) * hidden + unit];
    saved.before_h = piece.output[in_time_before * piece.columns + unit];
  }
  return saved;
}

__global__ void __launch_bounds__(kLstmThreads, 1)
    lstm_backward_kernel(const LstmBackwardCall call) {
  FUSIONKIT_SHARED(LstmBlock<LstmBackwardPiece>, memory);
  LstmBlock<LstmBackwardPiece>& block = *memory;
  lstm_begin(call, lstm_backward_shape, block);
  const LstmBackwardPiece& piece = block.piece;
  const LstmPlace& place = block.place;
  const LstmShape& shape = block.shape;
  float* vectors = block.vectors();
  int* lengths = block.lengths();

  float weights[4 * kLstmDepth];
  const LstmLane own = lstm_lane(shape);
  lstm_backward_weights(piece, place, own.group(shape), own.depth, weights);
  const int hidden = piece.hidden_size;
  const int longest = lstm_lengths(call, place, lengths);
  lstm_backward_padding(call, piece, place, lengths);

  const int row_of_thread = static_cast<int>(threadIdx.x) / piece.units;
  const int slot = static_cast<int>(threadIdx.x) % piece.units;
  const int unit = place.first_unit + slot;
  for (int step = longest - 1; step >= 0; --step) {
    const bool is_last = step == longest - 1;
    if (!is_last && place.slices > 1) {
      fk::grid_barrier(place.arrivals, place.slices * (longest - 1 - step));
      const auto gradients_after = [&](int row) {
        const int after = lstm_time(piece.reverse, lengths[row], step + 1);
        return piece.grad_gates + (int64_t{place.first_row + row} * call.time + after) * 4 * hidden;
      };
      lstm_collect<4>(place, lengths, step + 1, hidden, shape.padded, vectors, gradients_after);
      __syncthreads();
    }
    for (int begin = 0; begin < place.rows; begin += shape.chunk) {
      const int end = begin + shape.chunk < place.rows ? begin + shape.chunk : place.rows;
      const int row = begin + row_of_thread;
      const bool works = row < end && slot < place.units && step < lengths[row];
      int in_time = 0;
      LstmSaved saved;
      if (works) {
        const int first = (place.first_row + row) * call.time;
        in_time = first + lstm_time(piece.reverse, lengths[row], step);
        const int before = first + lstm_time(piece.reverse, lengths[row], step - 1);
        saved = lstm_saved(piece, in_time, before, step == 0, unit);
      }
      if (!is_last) {
        lstm_multiply_rows(shape, own, weights, vectors, lengths, step + 1, begin, end,
                           block.sums());
        __syncthreads();
      }
      if (works) {
        float* cell = block.cells() + row * piece.units + slot;
        float recurrent = 0.0f, grad_c = 0.0f;
        if (step + 1 < lengths[row]) {
          const float* part = block.sums() + (row - begin) * shape.lanes * 4 + slot;
          for (int split = 0; split < shape.splits; ++split) {
            recurrent += part[split * shape.groups * 4];
          }
          grad_c = *cell;
        } else if (piece.grad_state != nullptr) {
          const float* grad_state =
              piece.grad_state + int64_t{place.first_row + row} * hidden + unit;
          recurrent = grad_state[0];
          grad_c = grad_state[call.batch * hidden];
        }
        const float grad_h = saved.grad_h + recurrent;
        const float squashed = tanhf(saved.c);
        const float total = grad_c + grad_h * saved.o * (1.0f - squashed * squashed);
        const float gradients[4] = {
            total * saved.g * saved.i * (1.0f - saved.i),
            total * saved.before_c * saved.f * (1.0f - saved.f),
            total * saved.i * (1.0f - saved.g * saved.g),
            grad_h * squashed * saved.o * (1.0f - saved.o),
        };
        *cell = total * saved.f;
        piece.previous[int64_t{in_time} * hidden + unit] = saved.before_h;
        float* grad_gates = piece.grad_gates + int64_t{in_time} * 4 * hidden + unit;
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) {
          grad_gates[gate * hidden] = gradients[gate];
          if (place.slices == 1) {
            vectors[row * shape.padded + gate * hidden + unit] = gradients[gate];
          }
        }
      }
      __syncthreads();
    }
  }
}

}  // namespace fusionkit::cuda
