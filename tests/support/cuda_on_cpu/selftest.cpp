// What the emulator has to see, one case an argument: prints numbers, or ends with a message.
// tests/ops/test_cuda_emulator.py knows what is right.
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "../../../csrc/kernels/cuda/philox.cuh"

namespace {

constexpr int kThreads = 64;

// Every thread reads what its neighbour wrote; without the barrier, only if that one ran before.
template <bool with_barrier>
__global__ void neighbours(float* out) {
  __shared__ float values[kThreads];
  const int i = static_cast<int>(threadIdx.x);
  values[i] = static_cast<float>(i);
  if (with_barrier) __syncthreads();
  out[i] = values[(i + 1) % kThreads];
}

__global__ void shared_memory(float* out) {
  FUSIONKIT_SHARED(float, dynamic);
  __shared__ float fixed[1];
  out[2 * blockIdx.x] = dynamic[0];
  out[2 * blockIdx.x + 1] = fixed[0];
  dynamic[0] = fixed[0] = 1.0f;
}

__global__ void overrun(int at) {
  FUSIONKIT_SHARED(float, values);
  values[at] = 1.0f;
}

__global__ void missing_thread() {
  if (threadIdx.x != 3) __syncthreads();
}

__global__ void missing_lane() {
  if (fk::lane() != 3) fk::any(true);
}

__global__ void different_collectives() {
  if (fk::lane() < 16) {
    fk::shuffle(1, 0);
  } else {
    fk::shuffle_xor(1, 1);
  }
}

__global__ void unaligned(const float* from) {
  float values[4];
  fk::load4(from + 1, values);
}

__global__ void collectives(float* out) {
  const unsigned i = threadIdx.x + blockDim.x * threadIdx.y;
  const auto mine = static_cast<float>(i % 32 * 3 + i / 32);
  float* results = out + 5 * i;
  results[0] = fk::warp_sum(mine);
  results[1] = fk::warp_max(mine);
  results[2] = fk::shuffle(mine, 7);
  results[3] = fk::shuffle_xor(mine, 1);
  results[4] = fk::any(mine == 94.0f) ? 1.0f : 0.0f;
}

// (16, 16) times (16, 8), row by row, added to 1.
template <class T>
__global__ void product(const float* a, const float* b, float* out) {
  const int row = fk::lane() / 4, column = fk::lane() % 4 * 2;
  const auto word_of_a = [&](int r, int c) {
    return fk::pack2<T>(a[r * 16 + c], a[r * 16 + c + 1]);
  };
  const auto word_of_b = [&](int r, int c) {
    return fk::pack2<T>(b[r * 8 + c], b[(r + 1) * 8 + c]);
  };
  const uint32_t left[4] = {word_of_a(row, column), word_of_a(row + 8, column),
                            word_of_a(row, column + 8), word_of_a(row + 8, column + 8)};
  const uint32_t right[2] = {word_of_b(column, row), word_of_b(column + 8, row)};
  float d[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  fk::mma_16816<T>(d, left, right);
  out[row * 8 + column] = d[0];
  out[row * 8 + column + 1] = d[1];
  out[(row + 8) * 8 + column] = d[2];
  out[(row + 8) * 8 + column + 1] = d[3];
}

// Every block writes its number, waits for the others, and adds all numbers up. The barrier in the
// block is for the emulator: it must not let the other blocks write.
template <bool wait>
__global__ void all_blocks(float* numbers, unsigned* counter, float* out) {
  numbers[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
  __syncthreads();
  if (wait) fk::grid_barrier(counter, gridDim.x);
  float sum = 0.0f;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += numbers[i];
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

__global__ void missing_arrival(unsigned* counter) {
  if (blockIdx.x == 0) fk::grid_barrier(counter, 2);
}

void print(const std::vector<float>& numbers) {
  for (const float number : numbers) std::printf("%.9g\n", number);
}

template <class T>
void print_product() {
  std::vector<float> a(256), b(128), out(128);
  for (int i = 0; i < 256; ++i) a[i] = static_cast<float>(i % 23 - 11) / 8.0f;
  for (int i = 0; i < 128; ++i) b[i] = static_cast<float>(i % 19 - 9) / 4.0f;
  fk::launch(&product<T>, 1, 32, 0, nullptr, a.data(), b.data(), out.data());
  print(out);
}

template <class Kernel>
void print_neighbours(Kernel kernel) {
  std::vector<float> out(kThreads);
  fk::launch(kernel, 1, kThreads, 0, nullptr, out.data());
  print(out);
}

template <class Kernel>
void print_all_blocks(Kernel kernel) {
  std::vector<float> numbers(5), out(5);
  unsigned counter = 0;
  fk::launch_cooperative(kernel, 5, 32, 0, nullptr, numbers.data(), &counter, out.data());
  print(out);
}

template <class T>
void print_rounded() {
  for (const float x : {1.0f, -2.5f, 1.00048828125f, 1.00146484375f, 1.001953125f, 65519.0f,
                        65520.0f, 1e-5f, -6e-8f, 2e-8f, 3e38f, -INFINITY}) {
    std::printf("%.9g\n", fk::to_float(fk::from_float<T>(x)));
  }
}

}  // namespace

int main(int, char** arguments) {
  const std::map<std::string, void (*)()> cases = {
      {"neighbours", [] { print_neighbours(&neighbours<true>); }},
      {"neighbours without a barrier", [] { print_neighbours(&neighbours<false>); }},
      {"shared memory",
       [] {
         std::vector<float> out(4);
         fk::launch(&shared_memory, 2, 1, 16, nullptr, out.data());
         print(out);
       }},
      {"within", [] { fk::launch(&overrun, 1, 1, 16, nullptr, 3); }},
      {"beyond", [] { fk::launch(&overrun, 1, 1, 16, nullptr, 4); }},
      {"before", [] { fk::launch(&overrun, 1, 1, 16, nullptr, -1); }},
      {"missing thread", [] { fk::launch(&missing_thread, 2, kThreads, 0, nullptr); }},
      {"missing lane", [] { fk::launch(&missing_lane, 1, kThreads, 0, nullptr); }},
      {"different collectives", [] { fk::launch(&different_collectives, 1, 32, 0, nullptr); }},
      {"unaligned",
       [] {
         alignas(16) const float from[8] = {};
         fk::launch(&unaligned, 1, 1, 0, nullptr, &from[0]);
       }},
      {"collectives",
       [] {
         std::vector<float> out(5 * kThreads);
         fk::launch(&collectives, 1, dim3(16, 4), 0, nullptr, out.data());
         print(out);
       }},
      {"product of float16", [] { print_product<fk::half_t>(); }},
      {"product of bfloat16", [] { print_product<fk::bfloat_t>(); }},
      {"all blocks", [] { print_all_blocks(&all_blocks<true>); }},
      {"all blocks without a barrier", [] { print_all_blocks(&all_blocks<false>); }},
      {"missing arrival",
       [] {
         unsigned counter = 0;
         fk::launch_cooperative(&missing_arrival, 2, 32, 0, nullptr, &counter);
       }},
      {"float16", [] { print_rounded<fk::half_t>(); }},
      {"bfloat16", [] { print_rounded<fk::bfloat_t>(); }},
      {"philox",
       [] {
         for (const uint32_t word :
              fk::philox(uint64_t(-(int64_t{1} << 40) - 5), 7, 6, 5, 4).values) {
           std::printf("%u\n", word);
         }
       }},
      {"invalid", [] {
         std::printf("%d\n%d\n", fk::launch(&missing_lane, 1, 1025, 0, nullptr),
                     fk::launch(&missing_lane, 0, 32, 0, nullptr));
       }}};
  cases.at(arguments[1])();
}
