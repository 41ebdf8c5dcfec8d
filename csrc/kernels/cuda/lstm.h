// The recurrent part of independent long short-term memories ("strands": a direction of a layer)
// over sequences that are padded at the end, on a GPU, in float32.
//
// One launch runs many strands. What comes from the inputs, x W_ih^T + b_ih, is there before, for
// all steps; the gradients of the inputs and weights are products that come after. A launch takes
// pieces: a strand over a range of batch rows. A piece is shared out among blocks by batch rows,
// and by hidden units where the recurrent weights of a strand do not fit into the registers of one
// block ("slices"). Slices of the same rows wait for each other after every step, so all blocks of
// such a launch have to run at the same time: a cooperative launch, whose size is limited.
#pragma once

#include <cstdint>

typedef struct CUstream_st* cudaStream_t;

namespace fusionkit::cuda {

// Threads of a block.
constexpr int kLstmThreads = 512;

// A thread holds the recurrent weights of four results for so many elements of the vector.
constexpr int kLstmDepth = 20;

// Pieces of a launch: they travel as a parameter of the kernel, which may have 4 KiB.
constexpr int kLstmMostPieces = 32;

// Shared memory of a block, in bytes; every device of compute capability 8.0 or later has more.
constexpr int kLstmSharedBytes = 96 * 1024;

struct LstmPiece {
  int hidden_size;     // H
  int units;           // hidden units of a block
  int rows;            // batch rows of a block
  int first_row;       // of the piece
  int end_row;         // behind its last one
  int first_block;     // of the launch
  bool reverse;        // starts at the last valid step of each row
  int columns;         // of an output: H, or 2H with both directions side by side
  unsigned* arrivals;  // a zero for each group of rows: blocks that have finished a step
};

struct LstmForwardPiece : LstmPiece {
  const float* projected;  // (B, T, 4H): x W_ih^T + b_ih, gates i, f, g, o
  const float* w_hh;       // (4H, H)
  const float* b_hh;       // (4H,)
  float* output;           // (B, T, columns), at the strand's first column
  float* steps;            // (B, T, 5H): activated gates and cell state, at valid steps; or null
  float* state;            // (2, B, H): h and c after the last valid step
};

struct LstmBackwardPiece : LstmPiece {
  const float* grad_output;  // (B, T, columns), at the strand's first column
  const float* grad_state;   // (2, B, H), or null for 0
  const float* w_hh;         // (4H, H)
  const float* output;       // (B, T, columns), at the strand's first column
  const float* steps;        // (B, T, 5H)
  float* grad_gates;         // (B, T, 4H): of the gates before activation; 0 on padding
  float* previous;           // (B, T, H): h of the step before, 0 at the first one and on padding
};

// All tensors are contiguous but for the columns of the outputs.
template <class Piece>
struct LstmCall {
  int64_t batch;           // B
  int time;                // T
  const int64_t* lengths;  // (B,), taken as if in [0, T]; or null where all are T
  int pieces;
  int blocks;
  Piece piece[kLstmMostPieces];
};

using LstmForwardCall = LstmCall<LstmForwardPiece>;
using LstmBackwardCall = LstmCall<LstmBackwardPiece>;

// Whether the blocks of a piece wait for each other.
inline bool is_sliced(const LstmPiece& piece) { return piece.units < piece.hidden_size; }

inline int blocks_of(const LstmPiece& piece) {
  const int slices = (piece.hidden_size + piece.units - 1) / piece.units;
  return (piece.end_row - piece.first_row + piece.rows - 1) / piece.rows * slices;
}

// Bytes of shared memory that a block of the piece needs; 0 where a block has too few threads for
// its units.
int64_t lstm_forward_shared_bytes(const LstmPiece& piece);
int64_t lstm_backward_shared_bytes(const LstmPiece& piece);

// All elements of outputs, states and steps (valid ones) of the pieces' rows. Returns cudaError_t.
int lstm_forward(const LstmForwardCall& call, cudaStream_t stream);

// All elements of the gates' gradients and of the states before. Returns cudaError_t.
int lstm_backward(const LstmBackwardCall& call, cudaStream_t stream);

}  // namespace fusionkit::cuda
