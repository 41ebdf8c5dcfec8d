// Softmax attention on float, half or bfloat16 in the memory of a CUDA device: fusionkit's
// operators cross_attention and cross_attention_pairs. The single operator is the list of one pair.
//
// All pairs of a call share the dtype; those whose head dims fall into one bucket share a launch.
#pragma once

#include <cstdint>
#include <vector>

#include "dtype.h"

typedef struct CUstream_st* cudaStream_t;

namespace fusionkit {
namespace cuda {

constexpr int kAttentionMaxHeadDim = 128;
constexpr int kAttentionMaxPairs = 12;  // of one launch; longer lists take several

// (B, H, T, D) with D contiguous; strides in elements.
struct AttentionTensor {
  void* data;
  int batch_stride, head_stride, step_stride;
  int vectors;  // whether every fourth element of a row is aligned for a load of four
};

struct AttentionBias {
  const float* data;  // null where there is none
  int batch_stride, head_stride, row_stride, column_stride;
};

// Everything is in device memory, lengths and the seed too; the host reads none of it.
struct AttentionInputs {
  int batch, heads, num_queries, num_keys, head_dim, value_dim;
  AttentionTensor query, key, value;
  AttentionBias bias;
  const int64_t* key_lengths;    // (B,), or null where every key counts
  const int64_t* query_lengths;  // (B,), or null where every row counts
  const int64_t* seed;           // of the dropout mask, or null
  float scale;
};

struct AttentionForwardPair {
  AttentionInputs in;
  AttentionTensor out;
  // (2, B, H, Tq) contiguous: the largest score of a row in base 2, and the sum of 2^(score -
  // largest). 0 and 0 for rows without result.
  float* row_sums;
};

struct AttentionBackwardPair {
  AttentionInputs in;
  AttentionTensor grad_out, out;
  const float* row_sums;
  AttentionTensor query, key, value;  // gradients; null data where not asked for
  float* scores;                      // gradient (B, H, Tq, Tk) contiguous, or null
};

// What dropout_p stands for; a threshold of 0 drops nothing.
struct AttentionDropout {
  uint32_t threshold;  // random words below it are dropped
  float factor;        // of the weights that stay
};

// Return a cudaError_t.
int attention_forward(fk::Dtype dtype, const std::vector<AttentionForwardPair>& pairs,
                      AttentionDropout dropout, cudaStream_t stream);
int attention_backward(fk::Dtype dtype, const std::vector<AttentionBackwardPair>& pairs,
                       AttentionDropout dropout, cudaStream_t stream);

}  // namespace cuda
}  // namespace fusionkit
