// Softmax attention on float32 in main memory: fusionkit's operator cross_attention. The functions
// work on one head of one sample, so that callers can spread heads, rows and keys over threads.
#pragma once

#include <cstdint>

namespace fusionkit {

// (B, H, T, D) with D contiguous; strides in elements.
template <class Element>
struct AttentionTensor {
  Element* data;
  int64_t batch_stride;
  int64_t head_stride;
  int64_t step_stride;

  Element* at(int64_t batch, int64_t head) const {
    return data + batch * batch_stride + head * head_stride;
  }
};

struct AttentionBias {
  const float* data;  // null where there is none
  int64_t batch_stride;
  int64_t head_stride;
  int64_t row_stride;
  int64_t column_stride;
};

struct AttentionInputs {
  int64_t batch, heads, num_queries, num_keys, head_dim, value_dim;
  AttentionTensor<const float> query, key, value;
  AttentionBias bias;
  const int64_t* key_lengths;    // (B,), or null where every key counts
  const int64_t* query_lengths;  // (B,), or null where every row counts
  float scale;
  double dropout_p;  // in [0, 1)
  uint64_t seed;

  int64_t keys(int64_t b) const { return key_lengths == nullptr ? num_keys : key_lengths[b]; }
  int64_t rows(int64_t b) const {
    return query_lengths == nullptr ? num_queries : query_lengths[b];
  }
};

struct AttentionOutputs {
  AttentionTensor<float> out;
  // (B, H, Tq) contiguous: the largest score of a row in base 2, and the sum of 2^(score -
  // largest). Apart, they stay exact however large the scores are. 0 and 0 for rows without result.
  float* largest;
  float* sum;
};

struct AttentionGradients {
  AttentionTensor<const float> grad_out, out;
  const float *largest, *sum;
  AttentionTensor<float> query, key, value;  // null data where not asked for
  float* scores;                             // (B, H, Tq, Tk) contiguous, or null
};

// Rows [row_begin, row_end) of a head, padding included. row_begin is a multiple of 16.
using AttentionForward = void(const AttentionInputs& in, const AttentionOutputs& out, int64_t batch,
                              int64_t head, int64_t row_begin, int64_t row_end);

// Floats between the rows of the buffer that gradients of the query are summed in: a head dim that
// is padded to whole vectors of every ISA level.
constexpr int64_t attention_padded_head_dim(int64_t head_dim) {
  return head_dim <= 4 ? 4 : head_dim <= 8 ? 8 : (head_dim + 15) / 16 * 16;
}

// What a row brings to the backward pass, the same for all keys.
struct AttentionRowFacts {
  float* inverse;  // (Tq,): 1 / sum, 0 for rows without result
  float* delta;    // (Tq,): sum of grad_out * out
  float* query;    // (Tq, D): query * scale in base 2
  // (Tq, Dv), with a bias only, else null: grad_out without the rows that the bias leaves no key
  // for.
  float* grad_out;
};

// Gradients of keys and values [key_begin, key_end) of a head, padding included; what these keys
// give to the gradient of the query is added to `grad_query` (Tq, attention_padded_head_dim(D)).
// key_begin is a multiple of 16; `facts` is memory to work in.
using AttentionBackward = void(const AttentionInputs& in, const AttentionGradients& grads,
                               int64_t batch, int64_t head, int64_t key_begin, int64_t key_end,
                               float* grad_query, const AttentionRowFacts& facts);

namespace base {
AttentionForward attention_forward;
AttentionBackward attention_backward;
}  // namespace base

namespace avx2 {
AttentionForward attention_forward;
AttentionBackward attention_backward;
}  // namespace avx2

namespace avx512 {
AttentionForward attention_forward;
AttentionBackward attention_backward;
}  // namespace avx512

}  // namespace fusionkit
