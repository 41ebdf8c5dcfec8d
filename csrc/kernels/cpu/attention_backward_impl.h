// The backward pass of attention, included once for each ISA level (isa_*.h). Lanes are keys; the
// weights are recomputed once, from what the forward pass saved of each row, and serve all three
// gradients (Dao et al. 2022, "FlashAttention", algorithm 4).

#include "attention.h"
#include "attention_tiles.h"
#include "philox_lanes.h"
#include "simd.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

constexpr int64_t kRowBlock = 64;

// Side by side in one buffer: at a fixed distance of some KiB they would share few sets of level 1.
struct BackwardScratch {
  float* key;          // (D, lanes)
  float* value;        // (Dv, lanes)
  float* key_rows;     // (lanes, D), padded, times scale
  float* grad_key;     // (D, lanes)
  float* grad_value;   // (Dv, lanes)
  float* weights;      // (rows, lanes), after dropout
  float* grad_scores;  // (rows, lanes)
};

// One head of a sample: the call, and the pointers that belong to the head.
struct BackwardHead {
  const AttentionInputs& in;
  const AttentionGradients& grads;
  int64_t batch, head;
  const float* query;
  const float* grad_out;
  int64_t grad_out_stride;
  const float* out;
  const float* bias;           // null where there is none
  const float *largest, *sum;  // (Tq,)
  float* grad_scores;          // (Tq, Tk), or null
  AttentionRowFacts facts;
  PhiloxKeys random;
};

// Bias of a row, in base 2, for the keys in the lanes.
template <int N>
FUSIONKIT_INLINE Floats<N> bias_of_row(const BackwardHead& at, int64_t row, int64_t key, int keys) {
  const AttentionBias& bias = at.in.bias;
  const float* first = at.bias + row * bias.row_stride + key * bias.column_stride;
  if (bias.column_stride == 0) return bias_in_base_2<N>(broadcast<N>(*first));
  Floats<N> values{};
  for (int j = 0; j < keys; ++j) values[j] = first[j * bias.column_stride];
  return bias_in_base_2<N>(values);
}

// What dropout multiplies the weights of R <= 4 rows with.
template <int N, int R>
FUSIONKIT_INLINE void keep_factors(const BackwardHead& at, const PhiloxLanes<N>& tile, int64_t row,
                                   Floats<N> (&factor)[R]) {
  const auto threshold = philox_threshold(at.in.dropout_p);
  const auto kept = static_cast<float>(1.0 / (1.0 - at.in.dropout_p));
  const PhiloxLanes<N> lanes =
      philox_at_row<N>(tile, at.random, static_cast<uint32_t>(row), static_cast<uint32_t>(at.head));
  const PhiloxWords<N> rows = words_by_row<N>(philox_finish<N>(lanes, at.random));
  for (int r = 0; r < R; ++r) {
    factor[r] = rows.word[r] >= threshold ? broadcast<N>(kept) : Floats<N>{};
  }
}

// Weights and gradients of the scores of R rows, block-local rows `i` on, global rows `row` on.
template <int N, int R>
FUSIONKIT_INLINE void fill_rows(const BackwardHead& at, const PhiloxLanes<N>& tile, int64_t row,
                                int64_t i, int64_t key, int keys, const BackwardScratch& scratch) {
  const AttentionInputs& in = at.in;
  Floats<N> scores[R], grads[R];
  dot_rows<N, R>(scratch.key, at.facts.query + row * in.head_dim, in.head_dim, in.head_dim, scores);
  dot_rows<N, R>(scratch.value, at.grad_out + row * at.grad_out_stride, at.grad_out_stride,
                 in.value_dim, grads);
  if (at.bias != nullptr) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) scores[r] += bias_of_row<N>(at, row + r, key, keys);
  }
  Floats<N> weights[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    weights[r] = exp2<N>(scores[r] - at.largest[row + r]) * at.facts.inverse[row + r];
  }
  Floats<N> factor[R] = {};
  if (in.dropout_p > 0.0) keep_factors<N, R>(at, tile, row, factor);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    if (in.dropout_p > 0.0) grads[r] *= factor[r];
    const Floats<N> grad = weights[r] * (grads[r] - at.facts.delta[row + r]);
    if (in.dropout_p > 0.0) weights[r] *= factor[r];
    store<N>(scratch.weights + (i + r) * N, weights[r]);
    store<N>(scratch.grad_scores + (i + r) * N, grad);
    if (at.grad_scores != nullptr) {
      store_first<N>(at.grad_scores + (row + r) * in.num_keys + key, grad, keys);
    }
  }
}

// Rows without result pass no gradient, whatever arrives there: 0 times NaN would be NaN.
void copy_grad_out(const BackwardHead& at) {
  const float* from = at.grads.grad_out.at(at.batch, at.head);
  for (int64_t i = 0; i < at.in.rows(at.batch); ++i, from += at.grads.grad_out.step_stride) {
    const bool empty = at.sum[i] == 0.0f;
    float* to = at.facts.grad_out + i * at.in.value_dim;
    for (int64_t d = 0; d < at.in.value_dim; ++d) to[d] = empty ? 0.0f : from[d];
  }
}

void fill_row_facts(const BackwardHead& at) {
  const int64_t rows = at.in.rows(at.batch), out_stride = at.grads.out.step_stride;
  for (int64_t i = 0; i < rows; i += 4) {
    const int real = static_cast<int>(std::min<int64_t>(4, rows - i));
    // With the bits of dot_rows, so that the difference to a row's only key is exactly 0.
    store_first<4>(at.facts.delta + i,
                   dot_four(at.grad_out + i * at.grad_out_stride, at.grad_out_stride,
                            at.out + i * out_stride, out_stride, real, at.in.value_dim),
                   real);
  }
  for (int64_t i = 0; i < rows; ++i) {
    at.facts.inverse[i] = at.sum[i] == 0.0f ? 0.0f : 1.0f / at.sum[i];
    // Scaled as in the forward pass, so that the scores have the same bits: weights that differ by
    // rounding from those in `out` would not match delta.
    copy_row(at.facts.query + i * at.in.head_dim, at.query + i * at.in.query.step_stride,
             at.in.head_dim, at.in.scale * kLog2E);
  }
}

// N keys at once, `keys` of them real; adds to grad_query, whose rows have M lanes a piece.
template <int N, int M>
void backward_tile(const BackwardHead& at, int64_t key, int keys, float* grad_query, int64_t stride,
                   const BackwardScratch& scratch) {
  const AttentionInputs& in = at.in;
  const AttentionGradients& grads = at.grads;
  const float* key_rows = in.key.at(at.batch, at.head) + key * in.key.step_stride;
  pack_lanes<N>(scratch.key, key_rows, in.key.step_stride, keys, in.head_dim, 1.0f);
  pack_lanes<N>(scratch.value, in.value.at(at.batch, at.head) + key * in.value.step_stride,
                in.value.step_stride, keys, in.value_dim, 1.0f);
  for (int j = 0; j < keys; ++j) {
    float* to = scratch.key_rows + j * stride;
    store<M>(to + stride - M, Floats<M>{});
    copy_row(to, key_rows + j * in.key.step_stride, in.head_dim, in.scale);
  }
  std::memset(scratch.grad_key, 0, sizeof(float) * N * in.head_dim);
  std::memset(scratch.grad_value, 0, sizeof(float) * N * in.value_dim);
  const int64_t num_rows = in.rows(at.batch);
  const PhiloxLanes<N> tile =
      philox_tile<N>(at.random, static_cast<uint32_t>(key / 4), 0, static_cast<uint32_t>(at.head),
                     static_cast<uint32_t>(at.batch));
  for (int64_t row = 0; row < num_rows; row += kRowBlock) {
    const int64_t rows = std::min(kRowBlock, num_rows - row);
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) fill_rows<N, 4>(at, tile, row + i, i, key, keys, scratch);
    if (rows - i == 3) fill_rows<N, 3>(at, tile, row + i, i, key, keys, scratch);
    if (rows - i == 2) fill_rows<N, 2>(at, tile, row + i, i, key, keys, scratch);
    if (rows - i == 1) fill_rows<N, 1>(at, tile, row + i, i, key, keys, scratch);
    if (grads.value.data != nullptr) {
      add_product<N>(scratch.grad_value, scratch.weights, at.grad_out + row * at.grad_out_stride,
                     at.grad_out_stride, rows, in.value_dim);
    }
    if (grads.key.data != nullptr) {
      add_product<N>(scratch.grad_key, scratch.grad_scores, at.query + row * in.query.step_stride,
                     in.query.step_stride, rows, in.head_dim);
    }
    if (grads.query.data != nullptr) {
      add_transposed_product<N, M>(grad_query + row * stride, scratch.grad_scores, scratch.key_rows,
                                   stride, rows, keys);
    }
  }
  if (grads.key.data != nullptr) {
    unpack_lanes<N>(grads.key.at(at.batch, at.head) + key * grads.key.step_stride,
                    grads.key.step_stride, scratch.grad_key, keys, in.head_dim, in.scale);
  }
  if (grads.value.data != nullptr) {
    unpack_lanes<N>(grads.value.at(at.batch, at.head) + key * grads.value.step_stride,
                    grads.value.step_stride, scratch.grad_value, keys, in.value_dim, 1.0f);
  }
}

template <int M>
void backward_keys(const BackwardHead& at, int64_t begin, int64_t end, float* grad_query,
                   int64_t stride) {
  alignas(64) float memory[(5 * kMaxHeadDim + 2 * kRowBlock) * kLanes];
  const int64_t head = stride * kLanes, value = at.in.value_dim * kLanes;
  BackwardScratch scratch;
  scratch.key = memory;
  scratch.value = scratch.key + head;
  scratch.key_rows = scratch.value + value;
  scratch.grad_key = scratch.key_rows + head;
  scratch.grad_value = scratch.grad_key + head;
  scratch.weights = scratch.grad_value + value;
  scratch.grad_scores = scratch.weights + kRowBlock * kLanes;
  int64_t key = begin;
  for (; key + kLanes <= end; key += kLanes) {
    backward_tile<kLanes, M>(at, key, kLanes, grad_query, stride, scratch);
  }
  const int keys = static_cast<int>(end - key);
  if (keys > 8) {
    backward_tile<kLanes, M>(at, key, keys, grad_query, stride, scratch);
  } else if (keys > 4) {
    backward_tile<std::min(8, kLanes), M>(at, key, keys, grad_query, stride, scratch);
  } else if (keys > 0) {
    backward_tile<4, M>(at, key, keys, grad_query, stride, scratch);
  }
}

void zero_rows(const AttentionTensor<float>& tensor, int64_t batch, int64_t head, int64_t begin,
               int64_t end, int64_t size) {
  if (tensor.data == nullptr) return;
  for (int64_t i = begin; i < end; ++i) {
    float* row = tensor.at(batch, head) + i * tensor.step_stride;
    for (int64_t d = 0; d < size; ++d) row[d] = 0.0f;
  }
}

}  // namespace

void attention_backward(const AttentionInputs& in, const AttentionGradients& grads, int64_t batch,
                        int64_t head, int64_t key_begin, int64_t key_end, float* grad_query,
                        const AttentionRowFacts& facts) {
  const int64_t index = batch * in.heads + head;
  const BackwardHead at{
      in,
      grads,
      batch,
      head,
      in.query.at(batch, head),
      facts.grad_out != nullptr ? facts.grad_out : grads.grad_out.at(batch, head),
      facts.grad_out != nullptr ? in.value_dim : grads.grad_out.step_stride,
      grads.out.at(batch, head),
      in.bias.data == nullptr
          ? nullptr
          : in.bias.data + batch * in.bias.batch_stride + head * in.bias.head_stride,
      grads.largest + index * in.num_queries,
      grads.sum + index * in.num_queries,
      grads.scores == nullptr ? nullptr : grads.scores + index * in.num_queries * in.num_keys,
      facts,
      philox_keys(in.seed)};
  const int64_t valid = std::min(key_end, in.keys(batch));
  const int64_t stride = attention_padded_head_dim(in.head_dim);
  if (valid > key_begin && in.rows(batch) > 0) {
    if (facts.grad_out != nullptr) copy_grad_out(at);
    fill_row_facts(at);
    if (in.head_dim <= 4) {
      backward_keys<4>(at, key_begin, valid, grad_query, stride);
    } else if (in.head_dim <= 8) {
      backward_keys<std::min(8, kLanes)>(at, key_begin, valid, grad_query, stride);
    } else {
      backward_keys<kLanes>(at, key_begin, valid, grad_query, stride);
    }
    zero_rows(grads.key, batch, head, std::max(key_begin, valid), key_end, in.head_dim);
    zero_rows(grads.value, batch, head, std::max(key_begin, valid), key_end, in.value_dim);
  } else {
    zero_rows(grads.key, batch, head, key_begin, key_end, in.head_dim);
    zero_rows(grads.value, batch, head, key_begin, key_end, in.value_dim);
  }
}

}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
