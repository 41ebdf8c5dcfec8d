// Runs the threads of CUDA blocks as fibers of one thread of the CPU, one at a time. A thread runs
// until it waits: at __syncthreads(), at a collective of its warp, or in a spin loop. What is wrong
// with a kernel shows like this:
//  - a barrier that is missing: results depend on FUSIONKIT_EMULATED_ORDER, in which the threads of
//    a block and the blocks of a grid run (forward, the default, reverse or shuffled);
//  - shared memory that is read before it is written: it is full of 0xFF, NaN in every format;
//  - a barrier or a collective that some threads do not reach, and writes beyond the dynamic shared
//    memory: the process ends with a message.
// Blocks run one after the other; those of a cooperative launch all at once.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "memory.h"

namespace fk::emulated {

constexpr int kWarp = 32;
// Rounds in which every thread that can run only spins: then what they wait for never comes.
constexpr int kMaxIdleRounds = 10000;

enum class State { ready, spinning, in_warp, in_block, ended };

// What the lanes of a warp do together, given the arguments of all of them.
using Combine = void (*)(void* const (&lanes)[kWarp]);

struct Thread {
  dim3 index;
  Block* block = nullptr;
  State state = State::ready;
  const char* collective = "";
  void* arguments = nullptr;
  Combine combine = nullptr;
  bool started = false;
  jmp_buf registers;
  unsigned char* stack = nullptr;
};

inline std::string asked_order() {
  const char* asked = std::getenv("FUSIONKIT_EMULATED_ORDER");
  const std::string order = asked == nullptr || *asked == 0 ? "forward" : asked;
  if (order != "forward" && order != "reverse" && order != "shuffled") {
    fail("FUSIONKIT_EMULATED_ORDER=" + order + ": must be forward, reverse or shuffled");
  }
  return order;
}

class Machine {
 public:
  // Runs the kernel on blocks of the grid, one after the other or all at once.
  void run(dim3 grid, dim3 block, size_t shared_bytes, bool together,
           const std::function<void()>& kernel) {
    const std::lock_guard<std::mutex> lock(mutex_);
    kernel_ = &kernel;
    order_ = asked_order();
    gridDim = grid;
    blockDim = block;
    std::vector<dim3> indices;
    for (unsigned z = 0; z < grid.z; ++z) {
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) indices.emplace_back(x, y, z);
      }
    }
    if (!together) arrange(indices);
    const size_t at_once = together ? indices.size() : 1;
    for (size_t i = 0; i < indices.size(); i += at_once) {
      start(indices.data() + i, at_once, shared_bytes);
      run_threads();
      for (auto& done : blocks_) check_guards(*done);
    }
  }

  void wait(State state) {
    current_->state = state;
    if (_setjmp(current_->registers) == 0) _longjmp(scheduler_, 1);
  }

  void wait_for_warp(const char* collective, void* arguments, Combine combine) {
    current_->collective = collective;
    current_->arguments = arguments;
    current_->combine = combine;
    wait(State::in_warp);
  }

  unsigned char* shared() { return current_->block->shared(); }

 private:
  template <class Item>
  void arrange(std::vector<Item>& items) {
    if (order_ == "reverse") std::reverse(items.begin(), items.end());
    if (order_ == "shuffled") std::shuffle(items.begin(), items.end(), random_);
  }

  void start(const dim3* indices, size_t count, size_t shared_bytes) {
    per_block_ = size_t{blockDim.x} * blockDim.y * blockDim.z;
    poison_static_shared();
    blocks_.resize(count);
    threads_.assign(count * per_block_, Thread{});
    for (size_t i = 0; i < threads_.size(); ++i) {
      const size_t in_block = i % per_block_;
      auto& block = blocks_[i / per_block_];
      if (in_block == 0) {
        if (block == nullptr) block = std::make_unique<Block>();
        block->index = indices[i / per_block_];
        block->poison(shared_bytes);
      }
      threads_[i].block = block.get();
      threads_[i].index = {static_cast<unsigned>(in_block % blockDim.x),
                           static_cast<unsigned>(in_block / blockDim.x % blockDim.y),
                           static_cast<unsigned>(in_block / blockDim.x / blockDim.y)};
      threads_[i].stack = stacks_.at(i);
    }
  }

  // One block goes on until all of its threads wait for other blocks, and then the next: so a block
  // that does not wait for the others finds what they have not written yet.
  void run_threads() {
    std::vector<std::vector<Thread*>> turns(threads_.size() / per_block_);
    for (size_t i = 0; i < threads_.size(); ++i) turns[i / per_block_].push_back(&threads_[i]);
    arrange(turns);
    for (auto& block : turns) arrange(block);
    for (int idle = 0; idle < kMaxIdleRounds; ++idle) {
      bool spins = false;
      for (const auto& block : turns) {
        if (run_block(block)) idle = 0;
        for (const Thread* thread : block) spins |= thread->state == State::spinning;
      }
      if (!spins) break;
      if (idle + 1 == kMaxIdleRounds) fail("deadlock: threads spin for what no thread does");
    }
    for (const auto& thread : threads_) {
      if (thread.state != State::ended) fail("deadlock: " + describe(*thread.block));
    }
  }

  // Whether any thread did more than to spin.
  bool run_block(const std::vector<Thread*>& turns) {
    Thread* const first = *std::min_element(turns.begin(), turns.end());
    bool worked = false;
    for (bool again = false;; again = true) {
      bool ran = false;
      for (Thread* thread : turns) {
        const State before = thread->state;
        if (before != State::ready && (again || before != State::spinning)) continue;
        resume(*thread);
        ran |= before == State::ready || thread->state != State::spinning;
      }
      ran |= release(first);
      if (!ran) return worked;
      worked = true;
    }
  }

  // Lets the threads of a block go on where it or a warp of it is complete; whether there was one.
  bool release(Thread* first) {
    Thread* const end = first + per_block_;
    const auto at_barrier = [](const Thread& t) { return t.state == State::in_block; };
    if (std::all_of(first, end, at_barrier)) {
      for (Thread* thread = first; thread != end; ++thread) thread->state = State::ready;
      return true;
    }
    bool found = false;
    for (Thread* lane = first; end - lane >= kWarp; lane += kWarp) found |= release_warp(lane);
    return found;
  }

  bool release_warp(Thread* first) {
    void* arguments[kWarp];
    for (int i = 0; i < kWarp; ++i) {
      if (first[i].state != State::in_warp) return false;
      arguments[i] = first[i].arguments;
    }
    for (int i = 1; i < kWarp; ++i) {
      if (std::strcmp(first[i].collective, first->collective) != 0) {
        fail(std::string("lanes of one warp wait at ") + first->collective + " and at " +
             first[i].collective + " in " + first->block->name());
      }
    }
    if (first->combine != nullptr) first->combine(arguments);
    for (int i = 0; i < kWarp; ++i) first[i].state = State::ready;
    return true;
  }

  void resume(Thread& thread) {
    current_ = &thread;
    threadIdx = thread.index;
    blockIdx = thread.block->index;
    thread.state = State::ready;
    if (_setjmp(scheduler_) != 0) return;
    if (thread.started) _longjmp(thread.registers, 1);
    thread.started = true;
    getcontext(&entry_);
    entry_.uc_stack.ss_sp = thread.stack;
    entry_.uc_stack.ss_size = kStack;
    entry_.uc_link = nullptr;
    makecontext(&entry_, &Machine::enter, 0);
    setcontext(&entry_);
  }

  static void enter();

  std::string describe(const Block& block) const {
    size_t at_barrier = 0, in_warp = 0, ended = 0;
    const char* collective = "";
    for (const auto& thread : threads_) {
      if (thread.block != &block) continue;
      at_barrier += thread.state == State::in_block;
      ended += thread.state == State::ended;
      in_warp += thread.state == State::in_warp;
      if (thread.state == State::in_warp) collective = thread.collective;
    }
    std::string text = "in " + block.name() + ", ";
    if (at_barrier > 0) text += std::to_string(at_barrier) + " threads wait at __syncthreads, ";
    if (in_warp > 0) text += std::to_string(in_warp) + " wait at " + collective + ", ";
    return text + std::to_string(ended) + " have ended";
  }

  std::mutex mutex_;
  const std::function<void()>* kernel_ = nullptr;
  std::string order_;
  std::mt19937 random_{1};
  size_t per_block_ = 0;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Thread> threads_;
  Stacks stacks_;
  Thread* current_ = nullptr;
  jmp_buf scheduler_;
  ucontext_t entry_;
};

inline Machine machine;

inline void Machine::enter() {
  (*machine.kernel_)();
  machine.wait(State::ended);
}

}  // namespace fk::emulated
