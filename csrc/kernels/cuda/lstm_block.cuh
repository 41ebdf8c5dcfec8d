// What a block of the recurrence does forward and backward: it finds its place, multiplies vectors
// by the weights that its threads hold, and waits for the other slices of its rows.
//
// Both directions of time are a product, vector (depth) times weights (depth, 4 * groups), for each
// row and step. Forward the vector is h of the step before and a group is the four gates of a unit;
// backward the vector is the gradient of the 4H gates of the step after and a group is four units.
// A thread holds the weights of one group for kLstmDepth elements of the vector, so splits * groups
// threads make a team that multiplies a row; the parts of a sum are added through shared memory, in
// one order. Where the block has more threads, more teams hold the same weights for other rows.
#pragma once

#include "device.cuh"
#include "lstm.h"

namespace fusionkit::cuda {

static_assert(kLstmSharedBytes <= fk::kMostShared, "what a block may have");

struct LstmShape {
  int splits;  // threads that share the sums of a group
  int groups;
  int lanes;   // of a team
  int teams;   // 0 where the block has too few threads
  int padded;  // elements of a vector, with zeros behind
  int chunk;   // rows between two barriers: each thread finishes at most one (row, unit) of them
};

__host__ __device__ inline LstmShape lstm_shape(int depth, int groups, int units, int rows) {
  LstmShape shape;
  shape.splits = (depth + kLstmDepth - 1) / kLstmDepth;
  shape.groups = groups;
  shape.lanes = shape.splits * groups;
  shape.teams = kLstmThreads / shape.lanes;
  shape.padded = shape.splits * kLstmDepth;
  // At most 32 KiB of partial sums.
  const int most = 4 * kLstmThreads / shape.lanes;
  const int items = kLstmThreads / units;
  shape.chunk = items < most ? items : most;
  if (shape.chunk > rows) shape.chunk = rows;
  if (shape.chunk < 1) shape.chunk = 1;
  return shape;
}

__host__ __device__ inline LstmShape lstm_forward_shape(const LstmPiece& piece) {
  return lstm_shape(piece.hidden_size, piece.units, piece.units, piece.rows);
}

__host__ __device__ inline LstmShape lstm_backward_shape(const LstmPiece& piece) {
  return lstm_shape(4 * piece.hidden_size, (piece.units + 3) / 4, piece.units, piece.rows);
}

// The parts of a block's shared memory, as offsets in floats.
struct LstmMemory {
  int sums;     // (chunk, splits, 4 * groups), behind the vectors (rows, padded)
  int cells;    // (rows, units): cell states, or their gradients
  int bias;     // (4, units): b_hh, forward
  int lengths;  // (rows,) int
  int end;
};

__host__ __device__ inline LstmMemory lstm_memory(const LstmShape& shape, int units, int rows) {
  LstmMemory memory;
  memory.sums = rows * shape.padded;
  memory.cells = memory.sums + shape.chunk * shape.lanes * 4;
  memory.bias = memory.cells + rows * units;
  memory.lengths = memory.bias + 4 * units;
  memory.end = memory.lengths + rows;
  return memory;
}

// The rows and units of one block of a piece.
struct LstmPlace {
  int first_row, rows;
  int first_unit, units;
  int slices;
  unsigned* arrivals;
};

__device__ inline LstmPlace lstm_place(const LstmPiece& piece, int block) {
  LstmPlace place;
  const int slice_units = piece.units;
  place.slices = (piece.hidden_size + slice_units - 1) / slice_units;
  const int local = block - piece.first_block;
  const int group = local / place.slices;
  place.first_row = piece.first_row + group * piece.rows;
  const int rows_left = piece.end_row - place.first_row;
  place.rows = rows_left < piece.rows ? rows_left : piece.rows;
  place.first_unit = local % place.slices * slice_units;
  const int units_left = piece.hidden_size - place.first_unit;
  place.units = units_left < slice_units ? units_left : slice_units;
  place.arrivals = piece.arrivals + group;
  return place;
}

// What a block knows about its work, at the front of its shared memory: threads read it again after
// every barrier, so that their registers are left to the weights.
template <class Piece>
struct alignas(16) LstmBlock {
  Piece piece;
  LstmPlace place;
  LstmShape shape;
  LstmMemory memory;

  __device__ float* vectors() { return reinterpret_cast<float*>(this + 1); }
  __device__ float* sums() { return vectors() + memory.sums; }
  __device__ float* cells() { return vectors() + memory.cells; }
  __device__ float* bias() { return vectors() + memory.bias; }
  __device__ int* lengths() { return reinterpret_cast<int*>(vectors() + memory.lengths); }
};

// All threads call it, `shape_of` being lstm_forward_shape or lstm_backward_shape.
template <class Piece, class ShapeOf>
__device__ inline void lstm_begin(const LstmCall<Piece>& call, ShapeOf* shape_of,
                                  LstmBlock<Piece>& block) {
  const int index = static_cast<int>(blockIdx.x);
  if (threadIdx.x == 0) {
    int piece = call.pieces - 1;
    while (index < call.piece[piece].first_block) --piece;
    block.piece = call.piece[piece];
    block.place = lstm_place(block.piece, index);
    block.shape = shape_of(block.piece);
    block.memory = lstm_memory(block.shape, block.piece.units, block.piece.rows);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < block.memory.sums; i += kLstmThreads) block.vectors()[i] = 0.0f;
}

// Lengths of the block's rows into shared memory; the longest.
template <class Call>
__device__ inline int lstm_lengths(const Call& call, const LstmPlace& place, int* lengths) {
  for (int row = threadIdx.x; row < place.rows; row += kLstmThreads) {
    const int64_t given = call.lengths == nullptr ? call.time : call.lengths[place.first_row + row];
    lengths[row] = static_cast<int>(given < 0 ? 0 : given > call.time ? call.time : given);
  }
  __syncthreads();
  int longest = 0;
  for (int row = 0; row < place.rows; ++row) {
    if (lengths[row] > longest) longest = lengths[row];
  }
  return longest;
}

// The time of a step of a sequence.
__device__ inline int lstm_time(bool reverse, int length, int step) {
  return reverse ? length - 1 - step : step;
}

// Fills the vectors of rows with more than `least` steps with what other blocks have written, the
// `width` packs of N numbers from source(row) on, each a multiple of its size. Loads come before
// stores, so that they wait together.
template <int N, class Source>
__device__ __forceinline__ void lstm_collect(const LstmPlace& place, const int* lengths, int least,
                                             int width, int padded, float* vectors,
                                             const Source& source) {
  constexpr int kAtOnce = N == 4 ? 2 : 4;  // as registers allow
  const int rows_on = kLstmThreads / width, columns_on = kLstmThreads % width;
  int row = static_cast<int>(threadIdx.x) / width, column = static_cast<int>(threadIdx.x) % width;
  while (row < place.rows) {
    float values[kAtOnce][N];
    int targets[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      targets[i] = -1;
      if (row < place.rows && lengths[row] > least) {
        fk::load<N>(source(row) + N * column, values[i]);
        targets[i] = row * padded + N * column;
      }
      row += rows_on;
      column += columns_on;
      if (column >= width) {
        column -= width;
        ++row;
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (targets[i] < 0) continue;
      if constexpr (N == 4) {
        fk::store_shared4(vectors + targets[i], values[i]);
      } else {
        fk::store<N>(vectors + targets[i], values[i]);
      }
    }
  }
}

// sums += the thread's part of vector times weights.
__device__ __forceinline__ void lstm_multiply(const float (&weights)[4 * kLstmDepth],
                                              const float* vector, float (&sums)[4]) {
#pragma unroll
  for (int k = 0; k < kLstmDepth; k += 4) {
    float part[4];
    fk::load4(vector + k, part);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int out = 0; out < 4; ++out) {
        sums[out] = fmaf(weights[out * kLstmDepth + k + i], part[i], sums[out]);
      }
    }
  }
}

// The thread's part of every product, found out once: divisions take as long as some of the sums.
struct LstmLane {
  int team;   // at least `teams` where the thread has none
  int lane;   // of the team
  int depth;  // first element of the vector

  __device__ int group(const LstmShape& shape) const { return lane % shape.groups; }
};

__device__ inline LstmLane lstm_lane(const LstmShape& shape) {
  LstmLane own;
  own.team = static_cast<int>(threadIdx.x) / shape.lanes;
  own.lane = static_cast<int>(threadIdx.x) % shape.lanes;
  own.depth = own.lane / shape.groups * kLstmDepth;
  return own;
}

// Partial sums of those of the rows [begin, end) whose vector is there: rows with more than `step`
// steps.
__device__ __forceinline__ void lstm_multiply_rows(const LstmShape& shape, const LstmLane& own,
                                                   const float (&weights)[4 * kLstmDepth],
                                                   const float* vectors, const int* lengths,
                                                   int step, int begin, int end, float* sums) {
  if (own.team >= shape.teams) return;
  for (int row = begin + own.team; row < end; row += shape.teams) {
    if (lengths[row] <= step) continue;
    float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    lstm_multiply(weights, vectors + row * shape.padded + own.depth, total);
    fk::store_shared4(sums + ((row - begin) * shape.lanes + own.lane) * 4, total);
  }
}

}  // namespace fusionkit::cuda
