// The forward pass of attention, included once for each ISA level (isa_*.h). Lanes are query rows,
// so that maximum, sum and products need no reduction across lanes; keys and values are read as
// they lie. Keys go in blocks with an on-line softmax (Milakov and Gimelshein 2018), in base 2.

#include "attention.h"
#include "attention_tiles.h"
#include "philox_lanes.h"
#include "simd.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

constexpr int64_t kKeyBlock = 128;
static_assert(kKeyBlock % 4 == 0, "a block holds whole Philox blocks");

struct ForwardScratch {
  alignas(64) float query[kMaxHeadDim * kLanes];
  alignas(64) float sums[kMaxHeadDim * kLanes];
  alignas(64) float scores[kKeyBlock * kLanes];
};

// One call's position: a head of a sample and the pointers that belong to it.
struct ForwardHead {
  const AttentionInputs& in;
  int64_t batch, head;
  const float* key;
  const float* value;
  const float* bias;  // null where there is none
  PhiloxKeys random;
};

// scores[j] += bias in base 2, for the rows from `row` on.
template <int N>
void add_bias(float* scores, const ForwardHead& at, int64_t row, int rows, int64_t key,
              int64_t keys) {
  const AttentionBias& bias = at.in.bias;
  const float* first = at.bias + row * bias.row_stride + key * bias.column_stride;
  for (int64_t j = 0; j < keys; ++j) {
    const float* column = first + j * bias.column_stride;
    Floats<N> added = broadcast<N>(*column);
    if (bias.row_stride != 0) {
      for (int i = 1; i < rows; ++i) added[i] = column[i * bias.row_stride];
    }
    store<N>(scores + j * N, load<N>(scores + j * N) + bias_in_base_2<N>(added));
  }
}

// Scores of the rows in the lanes with parts of the keys, and the largest of each lane so far.
template <int N>
struct ScoreParts {
  float* scores;
  const float* query;
  const float* rows;
  int64_t stride;
  int64_t size;
  Floats<N> largest;

  template <int R>
  FUSIONKIT_INLINE void run(int64_t first) {
    Floats<N> result[R];
    dot_rows<N, R>(query, rows + first * stride, stride, size, result);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      store<N>(scores + (first + r) * N, result[r]);
      largest = maximum<N>(result[r], largest);
    }
  }
};

// Scores with `keys` keys from `key` on; returns the largest of each lane.
template <int N>
Floats<N> fill_scores(float* __restrict scores, const float* query, const ForwardHead& at,
                      int64_t key, int64_t keys) {
  const int64_t stride = at.in.key.step_stride;
  ScoreParts<N> parts{scores, query,          at.key + key * stride,
                      stride, at.in.head_dim, broadcast<N>(-__builtin_inff())};
  in_equal_parts(keys, parts);
  return parts.largest;
}

// Weights that dropout takes are set to 0, the others grow.
template <int N>
void drop(float* weights, const ForwardHead& at, int64_t row, int64_t key, int64_t keys) {
  const auto threshold = philox_threshold(at.in.dropout_p);
  const auto kept = static_cast<float>(1.0 / (1.0 - at.in.dropout_p));
  for (int64_t j = 0; j < keys; j += 4) {
    const PhiloxWords<N> words = philox_finish<N>(
        philox_row_lanes<N>(at.random, static_cast<uint32_t>((key + j) / 4),
                            static_cast<uint32_t>(row), static_cast<uint32_t>(at.head),
                            static_cast<uint32_t>(at.batch)),
        at.random);
    for (int i = 0; i < 4 && j + i < keys; ++i) {
      float* weight = weights + (j + i) * N;
      store<N>(weight, words.word[i] >= threshold ? load<N>(weight) * kept : Floats<N>{});
    }
  }
}

// exp2(scores - shift) in place; returns the sum of each lane. Groups are summed first, for less
// rounding.
template <int N>
Floats<N> to_weights(float* scores, Floats<N> shift, int64_t keys) {
  Floats<N> total{};
  int64_t j = 0;
  if constexpr (N < kLanes) {
    // Few rows: several keys share a vector.
    constexpr int kKeys = kLanes / N;
    alignas(64) float lanes[kLanes];
    for (int i = 0; i < kLanes; i += N) store<N>(lanes + i, shift);
    j = keys / kKeys * kKeys;
    store<kLanes>(lanes, to_weights<kLanes>(scores, load<kLanes>(lanes), keys / kKeys));
    for (int i = 0; i < kLanes; i += N) total += load<N>(lanes + i);
  }
  for (; j + 8 <= keys; j += 8) {
    Floats<N> sum{};
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const Floats<N> weight = exp2<N>(load<N>(scores + (j + i) * N) - shift);
      store<N>(scores + (j + i) * N, weight);
      sum += weight;
    }
    total += sum;
  }
  Floats<N> sum{};
  for (; j < keys; ++j) {
    const Floats<N> weight = exp2<N>(load<N>(scores + j * N) - shift);
    store<N>(scores + j * N, weight);
    sum += weight;
  }
  return total + sum;
}

// N rows at once, `rows` of them real.
template <int N>
void forward_tile(const ForwardHead& at, const AttentionOutputs& out, int64_t row, int rows,
                  ForwardScratch& scratch) {
  const AttentionInputs& in = at.in;
  const int64_t num_keys = in.keys(at.batch);
  pack_lanes<N>(scratch.query, in.query.at(at.batch, at.head) + row * in.query.step_stride,
                in.query.step_stride, rows, in.head_dim, in.scale * kLog2E);
  std::memset(scratch.sums, 0, sizeof(float) * N * in.value_dim);
  Floats<N> largest = broadcast<N>(-__builtin_inff());
  Floats<N> total{};
  for (int64_t key = 0; key < num_keys; key += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, num_keys - key);
    float* scores = scratch.scores;
    Floats<N> block_largest = fill_scores<N>(scores, scratch.query, at, key, keys);
    if (at.bias != nullptr) {
      add_bias<N>(scores, at, row, rows, key, keys);
      block_largest = broadcast<N>(-__builtin_inff());
      for (int64_t j = 0; j < keys; ++j) {
        block_largest = maximum<N>(load<N>(scores + j * N), block_largest);
      }
    }
    block_largest = maximum<N>(block_largest, largest);
    // Where nothing but -inf was seen yet, 0 keeps the differences below free of inf - inf.
    const Floats<N> shift = block_largest == -__builtin_inff() ? Floats<N>{} : block_largest;
    const Floats<N> decay = exp2<N>(largest - shift);
    largest = block_largest;
    total = total * decay + to_weights<N>(scores, shift, keys);
    if (key > 0) {
      for (int64_t d = 0; d < in.value_dim; ++d) {
        store<N>(scratch.sums + d * N, load<N>(scratch.sums + d * N) * decay);
      }
    }
    if (in.dropout_p > 0.0) drop<N>(scores, at, row, key, keys);
    add_product<N>(scratch.sums, scores, at.value + key * in.value.step_stride,
                   in.value.step_stride, keys, in.value_dim);
  }
  // Only rows without a key that counts have a sum of 0; NaN is no 0 and stays.
  const Floats<N> inverse = total == 0.0f ? Floats<N>{} : 1.0f / total;
  for (int64_t d = 0; d < in.value_dim; ++d) {
    store<N>(scratch.sums + d * N, load<N>(scratch.sums + d * N) * inverse);
  }
  unpack_lanes<N>(out.out.at(at.batch, at.head) + row * out.out.step_stride, out.out.step_stride,
                  scratch.sums, rows, in.value_dim, 1.0f);
  const int64_t index = (at.batch * in.heads + at.head) * in.num_queries + row;
  store_first<N>(out.largest + index, total == 0.0f ? Floats<N>{} : largest, rows);
  store_first<N>(out.sum + index, total, rows);
}

}  // namespace

void attention_forward(const AttentionInputs& in, const AttentionOutputs& out, int64_t batch,
                       int64_t head, int64_t row_begin, int64_t row_end) {
  ForwardScratch scratch;
  const ForwardHead at{in,
                       batch,
                       head,
                       in.key.at(batch, head),
                       in.value.at(batch, head),
                       in.bias.data == nullptr ? nullptr
                                               : in.bias.data + batch * in.bias.batch_stride +
                                                     head * in.bias.head_stride,
                       philox_keys(in.seed)};
  const int64_t valid = in.keys(batch) == 0 ? 0 : std::min(row_end, in.rows(batch));
  int64_t row = row_begin;
  for (; row + kLanes <= valid; row += kLanes) {
    forward_tile<kLanes>(at, out, row, kLanes, scratch);
  }
  if (row < valid) {
    const int rows = static_cast<int>(valid - row);
    if (rows <= 4) {
      forward_tile<4>(at, out, row, rows, scratch);
    } else if (rows <= 8) {
      forward_tile<std::min(8, kLanes)>(at, out, row, rows, scratch);
    } else {
      forward_tile<kLanes>(at, out, row, rows, scratch);
    }
  }
  const int64_t index = (batch * in.heads + head) * in.num_queries;
  for (int64_t i = std::max(row_begin, valid); i < row_end; ++i) {
    float* to = out.out.at(batch, head) + i * out.out.step_stride;
    for (int64_t d = 0; d < in.value_dim; ++d) to[d] = 0.0f;
    out.largest[index + i] = out.sum[index + i] = 0.0f;
  }
}

}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
