// The forward recurrence: see lstm_block.cuh.
#pragma once

#include "lstm_block.cuh"

namespace fusionkit::cuda {

__device__ inline float lstm_sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The thread's part of W_hh: four gates of a unit, kLstmDepth units of the step before.
__device__ __forceinline__ void lstm_forward_weights(const LstmForwardPiece& piece,
                                                     const LstmPlace& place, int group, int first,
                                                     float (&weights)[4 * kLstmDepth]) {
  const int hidden = piece.hidden_size;
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) {
    const float* row =
        piece.w_hh + (static_cast<int64_t>(gate) * hidden + place.first_unit + group) * hidden;
#pragma unroll
    for (int k = 0; k < kLstmDepth; ++k) {
      const bool is_there = group < place.units && first + k < hidden;
      weights[gate * kLstmDepth + k] = is_there ? row[first + k] : 0.0f;
    }
  }
}

// (4, units) of b_hh; the barrier of lstm_lengths comes behind.
__device__ inline void lstm_forward_bias(const LstmForwardPiece& piece, const LstmPlace& place,
                                         float* bias) {
  for (int i = threadIdx.x; i < 4 * piece.units; i += kLstmThreads) {
    const int gate = i / piece.units, unit = i % piece.units;
    if (unit < place.units)
      bias[i] = piece.b_hh[gate * piece.hidden_size + place.first_unit + unit];
  }
}

// Zeros as output on the padding of the block's rows, and as state of rows without a step.
__device__ inline void lstm_forward_padding(const LstmForwardCall& call,
                                            const LstmForwardPiece& piece, const LstmPlace& place,
                                            const int* lengths) {
  for (int row = 0; row < place.rows; ++row) {
    const int64_t sample = place.first_row + row;
    float* output = piece.output + sample * call.time * piece.columns + place.first_unit;
    const int left = (call.time - lengths[row]) * place.units;
    for (int i = threadIdx.x; i < left; i += kLstmThreads) {
      const int64_t time = lengths[row] + i / place.units;
      output[time * piece.columns + i % place.units] = 0.0f;
    }
    float* state = piece.state + sample * piece.hidden_size + place.first_unit;
    if (lengths[row] > 0) continue;
    for (int unit = threadIdx.x; unit < place.units; unit += kLstmThreads) {
      state[unit] = 0.0f;
      state[call.batch * piece.hidden_size + unit] = 0.0f;
    }
  }
}

__global__ void __launch_bounds__(kLstmThreads, 1) lstm_forward_kernel(const LstmForwardCall call) {
  FUSIONKIT_SHARED(LstmBlock<LstmForwardPiece>, memory);
  LstmBlock<LstmForwardPiece>& block = *memory;
  lstm_begin(call, lstm_forward_shape, block);
  const LstmForwardPiece& piece = block.piece;
  const LstmPlace& place = block.place;
  const LstmShape& shape = block.shape;
  float* vectors = block.vectors();
  int* lengths = block.lengths();

  float weights[4 * kLstmDepth];
  const LstmLane own = lstm_lane(shape);
  lstm_forward_weights(piece, place, own.group(shape), own.depth, weights);
  const int hidden = piece.hidden_size;
  lstm_forward_bias(piece, place, block.bias());
  const int longest = lstm_lengths(call, place, lengths);
  lstm_forward_padding(call, piece, place, lengths);

  const int row_of_thread = static_cast<int>(threadIdx.x) / piece.units;
  const int unit = static_cast<int>(threadIdx.x) % piece.units;
  for (int step = 0; step < longest; ++step) {
    if (step > 0 && place.slices > 1) {
      fk::grid_barrier(place.arrivals, place.slices * step);
      const auto h_before = [&](int row) {
        const int before = lstm_time(piece.reverse, lengths[row], step - 1);
        return piece.output + (int64_t{place.first_row + row} * call.time + before) * piece.columns;
      };
      // A hidden size that four divides keeps every row of the output at a multiple of 16 bytes.
      if (hidden % 4 == 0) {
        lstm_collect<4>(place, lengths, step, hidden / 4, shape.padded, vectors, h_before);
      } else {
        lstm_collect<1>(place, lengths, step, hidden, shape.padded, vectors, h_before);
      }
      __syncthreads();
    }
    for (int begin = 0; begin < place.rows; begin += shape.chunk) {
      const int end = begin + shape.chunk < place.rows ? begin + shape.chunk : place.rows;
      const int row = begin + row_of_thread;
      const bool works = row < end && unit < place.units && step < lengths[row];
      int in_time = 0;
      float gates[4];
      if (works) {
        in_time =
            (place.first_row + row) * call.time + lstm_time(piece.reverse, lengths[row], step);
        const float* projected =
            piece.projected + int64_t{in_time} * 4 * hidden + place.first_unit + unit;
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) gates[gate] = projected[gate * hidden];
      }
      if (step > 0) {
        lstm_multiply_rows(shape, own, weights, vectors, lengths, step, begin, end, block.sums());
        __syncthreads();
      }
      if (works) {
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) gates[gate] += block.bias()[gate * piece.units + unit];
        for (int split = 0; step > 0 && split < shape.splits; ++split) {
          float part[4];
          fk::load4(block.sums() + ((row - begin) * shape.lanes + split * shape.groups + unit) * 4,
                    part);
#pragma unroll
          for (int gate = 0; gate < 4; ++gate) gates[gate] += part[gate];
        }
        const float i = lstm_sigmoid(gates[0]);
        const float f = lstm_sigmoid(gates[1]);
        const float g = tanhf(gates[2]);
        const float o = lstm_sigmoid(gates[3]);
        float* cell = block.cells() + row * piece.units + unit;
        const float c = step > 0 ? f * *cell + i * g : i * g;
        const float h = o * tanhf(c);
        *cell = c;
        if (place.slices == 1) vectors[row * shape.padded + unit] = h;
        piece.output[int64_t{in_time} * piece.columns + place.first_unit + unit] = h;
        if (piece.steps != nullptr) {
          float* saved = piece.steps + int64_t{in_time} * 5 * hidden + place.first_unit + unit;
          const float values[5] = {i, f, g, o, c};
#pragma unroll
          for (int k = 0; k < 5; ++k) saved[k * hidden] = values[k];
        }
        if (step == lengths[row] - 1) {
          float* state =
              piece.state + int64_t{place.first_row + row} * hidden + place.first_unit + unit;
          state[0] = h;
          state[call.batch * hidden] = c;
        }
      }
      __syncthreads();
    }
  }
}

}  // namespace fusionkit::cuda
