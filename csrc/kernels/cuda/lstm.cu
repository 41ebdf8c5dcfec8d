#include "lstm_backward.cuh"
#include "lstm_forward.cuh"

namespace fusionkit::cuda {
namespace {

template <class Piece>
int64_t shared_bytes(const LstmPiece& piece, const LstmShape& shape) {
  if (shape.teams == 0 || piece.units > kLstmThreads) return 0;
  const int64_t numbers = lstm_memory(shape, piece.units, piece.rows).end;
  return static_cast<int64_t>(sizeof(LstmBlock<Piece>)) + 4 * numbers;
}

template <class Call, class Kernel, class SharedBytes>
int run(const Call& call, Kernel* kernel, SharedBytes* bytes_of, cudaStream_t stream) {
  if (call.blocks == 0) return cudaSuccess;
  bool waits = false;
  int64_t bytes = 0;
  for (int i = 0; i < call.pieces; ++i) {
    waits = waits || is_sliced(call.piece[i]);
    const int64_t needed = bytes_of(call.piece[i]);
    if (needed == 0 || needed > kLstmSharedBytes) return cudaErrorInvalidValue;
    bytes = needed > bytes ? needed : bytes;
  }
  const dim3 grid(call.blocks), block(kLstmThreads);
  const auto memory = static_cast<size_t>(bytes);
  if (waits) return fk::launch_cooperative(kernel, grid, block, memory, stream, call);
  return fk::launch(kernel, grid, block, memory, stream, call);
}

}  // namespace

int64_t lstm_forward_shared_bytes(const LstmPiece& piece) {
  return shared_bytes<LstmForwardPiece>(piece, lstm_forward_shape(piece));
}

int64_t lstm_backward_shared_bytes(const LstmPiece& piece) {
  return shared_bytes<LstmBackwardPiece>(piece, lstm_backward_shape(piece));
}

int lstm_forward(const LstmForwardCall& call, cudaStream_t stream) {
  return run(call, lstm_forward_kernel, lstm_forward_shared_bytes, stream);
}

int lstm_backward(const LstmBackwardCall& call, cudaStream_t stream) {
  return run(call, lstm_backward_kernel, lstm_backward_shared_bytes, stream);
}

}  // namespace fusionkit::cuda
