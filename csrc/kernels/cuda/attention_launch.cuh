// Which kernels run for a list of pairs, with how many blocks: for one dtype, instantiated in
// attention_<dtype>.cu.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "attention_backward.cuh"
#include "attention_forward.cuh"
#include "attention_mma_backward.cuh"
#include "attention_mma_forward.cuh"
#include "attention_of_type.cuh"

namespace fusionkit {
namespace cuda {

inline int64_t divided_up(int64_t x, int64_t by) { return (x + by - 1) / by; }

inline int64_t heads_of(const AttentionInputs& in) { return int64_t{in.batch} * in.heads; }

// Bytes of shared memory for tiles of two tensors, and four more numbers a step at most.
template <int DIM>
size_t attention_shared(int steps, int numbers_per_step) {
  using Layout = AttentionLayout<DIM>;
  static_assert(sizeof(float) * Layout::kSteps * (2 * Layout::kStride + 4) <= fk::kMostShared &&
                    sizeof(uint32_t) * kMmaForwardWords<DIM> <= fk::kMostShared &&
                    sizeof(uint32_t) * kMmaBackwardWords<DIM> <= fk::kMostShared,
                "the whole tiles");
  return sizeof(float) * static_cast<size_t>(attention_tile_steps(steps, Layout::kSteps)) *
         static_cast<size_t>(2 * Layout::kStride + numbers_per_step);
}

template <int DIM>
int64_t attention_tiles(int steps, int split_shift, int rows_per_thread) {
  const int rows = kAttentionThreads / AttentionLayout<DIM>::kLanes >> split_shift;
  return divided_up(steps, int64_t{rows} * rows_per_thread);
}

template <int DIM>
int attention_splits(const AttentionInputs& in, int rows, int rows_per_thread, int steps,
                     int most_threads) {
  constexpr int kLanes = AttentionLayout<DIM>::kLanes;
  const int64_t threads = divided_up(heads_of(in) * rows, rows_per_thread) * kLanes;
  return attention_split_shift(threads, steps, most_threads / kLanes);
}

// Of a list with at most kAttentionMaxPairs pairs, all for one kernel.
template <class Kernel, class List, int N>
int launch_list(Kernel kernel, List& list, AttentionWork (&work)[N], int count, size_t shared,
                cudaStream_t stream) {
  const int64_t blocks = attention_spans(work, count, list.spans);
  if (blocks < 0) return cudaErrorInvalidConfiguration;
  if (blocks == 0) return cudaSuccess;
  return fk::launch(kernel, static_cast<unsigned>(blocks), kAttentionThreads, shared, stream, list);
}

// Whether tensor cores do the work.
template <class T, int DIM>
constexpr bool kOnTensorCores = sizeof(T) == 2 && DIM >= 32;

// Whether there are kernels of their own for lists without a bias: in narrow ones, its tests and
// addresses would be a quarter of all instructions.
template <int DIM>
constexpr bool kWithoutBias = DIM <= 16;

template <class T, int DIM>
int launch_forward(const std::vector<AttentionForwardPair>& pairs, AttentionDropout dropout,
                   cudaStream_t stream) {
  AttentionForwardList list = {};
  AttentionWork work[kAttentionMaxPairs];
  const int count = static_cast<int>(pairs.size());
  size_t shared = 0;
  bool bias = false;
  list.dropout = dropout;
  for (int i = 0; i < count; ++i) {
    const AttentionInputs& in = pairs[i].in;
    list.pair[i] = pairs[i];
    bias = bias || in.bias.data != nullptr;
    work[i] = {in.num_keys, heads_of(in), divided_up(in.num_queries, kMmaRows), i,
               AttentionRole::kQueries};
    if constexpr (!kOnTensorCores<T, DIM>) {
      const int shift =
          attention_splits<DIM>(in, in.num_queries, kForwardRows, in.num_keys, fk::kWarpSize);
      list.split_shift[i] = static_cast<int16_t>(shift);
      work[i].cost >>= shift;
      work[i].tiles = attention_tiles<DIM>(in.num_queries, shift, kForwardRows);
      shared = std::max(shared, attention_shared<DIM>(in.num_keys, 0));
    }
  }
  if constexpr (kOnTensorCores<T, DIM>) {
    return launch_list(&attention_mma_forward_kernel<T, DIM>, list, work, count,
                       sizeof(uint32_t) * kMmaForwardWords<DIM>, stream);
  } else {
    if constexpr (kWithoutBias<DIM>) {
      if (!bias) {
        return launch_list(&attention_forward_kernel<T, DIM, false>, list, work, count, shared,
                           stream);
      }
    }
    return launch_list(&attention_forward_kernel<T, DIM, true>, list, work, count, shared, stream);
  }
}

template <class T, int DIM>
int launch_backward(const std::vector<AttentionBackwardPair>& pairs, AttentionDropout dropout,
                    cudaStream_t stream) {
  AttentionBackwardList list = {};
  AttentionWork work[2 * kAttentionMaxPairs];
  int count = 0;
  size_t shared = 0;
  bool scores = false;
  list.dropout = dropout;
  for (int i = 0; i < static_cast<int>(pairs.size()); ++i) {
    const AttentionBackwardPair& pair = pairs[i];
    const AttentionInputs& in = pair.in;
    list.pair[i] = pair;
    scores = scores || in.bias.data != nullptr || pair.scores != nullptr;
    // Four products a score for keys, three for rows.
    if (pair.query.data != nullptr || pair.scores != nullptr) {
      AttentionWork& rows = work[count++];
      rows = {3 * int64_t{in.num_keys}, heads_of(in), divided_up(in.num_queries, kMmaRows), i,
              AttentionRole::kQueries};
      if constexpr (!kOnTensorCores<T, DIM>) {
        const int shift = attention_splits<DIM>(in, in.num_queries, 1, in.num_keys, fk::kWarpSize);
        list.rows_split_shift[i] = static_cast<int8_t>(shift);
        rows.cost >>= shift;
        rows.tiles = attention_tiles<DIM>(in.num_queries, shift, 1);
        shared = std::max(shared, attention_shared<DIM>(in.num_keys, 0));
      }
    }
    if (pair.key.data != nullptr || pair.value.data != nullptr) {
      AttentionWork& keys = work[count++];
      keys = {4 * int64_t{in.num_queries}, heads_of(in), divided_up(in.num_keys, kMmaRows), i,
              AttentionRole::kKeys};
      if constexpr (!kOnTensorCores<T, DIM>) {
        // At least four keys a warp, which share their random words.
        const int shift =
            attention_splits<DIM>(in, in.num_keys, 1, in.num_queries, fk::kWarpSize / 4);
        list.keys_split_shift[i] = static_cast<int8_t>(shift);
        keys.cost >>= shift;
        keys.tiles = attention_tiles<DIM>(in.num_keys, shift, 1);
        shared = std::max(shared, attention_shared<DIM>(in.num_queries, 4));
      }
    }
  }
  if constexpr (kOnTensorCores<T, DIM>) {
    return launch_list(&attention_mma_backward_kernel<T, DIM>, list, work, count,
                       sizeof(uint32_t) * kMmaBackwardWords<DIM>, stream);
  } else {
    if constexpr (kWithoutBias<DIM>) {
      if (!scores) {
        return launch_list(&attention_backward_kernel<T, DIM, false>, list, work, count, shared,
                           stream);
      }
    }
    return launch_list(&attention_backward_kernel<T, DIM, true>, list, work, count, shared, stream);
  }
}

// Head dims that kernels are made for; a pair takes the next one that its wider dim fits into.
using AttentionBuckets = std::integer_sequence<int, 4, 6, 8, 12, 16, 32, 64, kAttentionMaxHeadDim>;

// Calls launch(std::integral_constant<int, DIM>(), pairs) with the pairs of one bucket, above
// `below` and up to DIM, at most kAttentionMaxPairs at once.
template <int DIM, class Pair, class Launch>
int for_bucket(const std::vector<Pair>& pairs, int below, const Launch& launch) {
  std::vector<Pair> together;
  for (size_t i = 0; i <= pairs.size(); ++i) {
    if (together.size() == kAttentionMaxPairs || (i == pairs.size() && !together.empty())) {
      const int error = launch(std::integral_constant<int, DIM>(), together);
      if (error != cudaSuccess) return error;
      together.clear();
    }
    if (i == pairs.size()) break;
    const int widest = std::max(pairs[i].in.head_dim, pairs[i].in.value_dim);
    if (widest > below && widest <= DIM) together.push_back(pairs[i]);
  }
  return cudaSuccess;
}

// The same for all buckets in turn, until one returns an error.
template <int... DIMS, class Pair, class Launch>
int for_buckets(std::integer_sequence<int, DIMS...>, const std::vector<Pair>& pairs,
                const Launch& launch) {
  int error = cudaSuccess, below = 0;
  const auto one = [&](auto dim) {
    if (error == cudaSuccess) error = for_bucket<decltype(dim)::value>(pairs, below, launch);
    below = decltype(dim)::value;
  };
  (one(std::integral_constant<int, DIMS>()), ...);
  return error;
}

template <class T>
int forward_of_type(const std::vector<AttentionForwardPair>& pairs, AttentionDropout dropout,
                    cudaStream_t stream) {
  return for_buckets(AttentionBuckets(), pairs, [&](auto dim, const auto& together) {
    return launch_forward<T, decltype(dim)::value>(together, dropout, stream);
  });
}

template <class T>
int backward_of_type(const std::vector<AttentionBackwardPair>& pairs, AttentionDropout dropout,
                     cudaStream_t stream) {
  return for_buckets(AttentionBuckets(), pairs, [&](auto dim, const auto& together) {
    return launch_backward<T, decltype(dim)::value>(together, dropout, stream);
  });
}

}  // namespace cuda
}  // namespace fusionkit
