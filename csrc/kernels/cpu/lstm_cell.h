// The elementwise part of a step of the LSTM, forward and backward, included once for each ISA
// level. A row of hidden units whose number is no multiple of the vector is finished by a vector
// that overlaps the one before: its operands are read before anything is written in place.
#pragma once

#include "simd.h"

namespace fusionkit {
namespace FUSIONKIT_ISA {
namespace {

// Relative error below 1e-6 down to -87, where the value stops falling.
template <int N>
FUSIONKIT_INLINE Floats<N> sigmoid(Floats<N> x) {
  return 1.0f / (1.0f + exp2<N>(-kLog2E * maximum<N>(broadcast<N>(-87.0f), x)));
}

// Relative error below 1e-6. With e = exp(-2 |x|) - 1 nothing cancels near 0.
template <int N>
FUSIONKIT_INLINE Floats<N> tanh(Floats<N> x) {
  constexpr float kTwoLog2E = 2.88539008177792681f;
  // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits.
  constexpr float kRound = 12582912.0f;
  const Words<N> sign = (Words<N>)x & 0x80000000u;
  // tanh(10) is 1 in float32.
  const Floats<N> negative =
      maximum<N>(broadcast<N>(-10.0f), (Floats<N>)((Words<N>)x | 0x80000000u));
  const Floats<N> rounded = negative * kTwoLog2E + kRound;
  const Floats<N> f = negative * kTwoLog2E - (rounded - kRound);
  // 2^f - 1, minimax on [-0.5, 0.5] as in exp2.
  Floats<N> p = 1.535336188319500e-4f * f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f;
  const Floats<N> power = (Floats<N>)(((Words<N>)rounded << 23) + 0x3F800000u);
  const Floats<N> e = p * power + (power - 1.0f);
  return (Floats<N>)((Words<N>)(-e / (2.0f + e)) | sign);
}

// N hidden units from `unit` on; `count` < N of them where there are fewer than N in all.
template <int N>
struct Units {
  int64_t unit;
  int count;

  FUSIONKIT_INLINE Floats<N> read(const float* row) const {
    return load_first<N>(row + unit, count);
  }
  FUSIONKIT_INLINE void write(float* row, Floats<N> v) const {
    store_first<N>(row + unit, v, count);
  }
};

// Runs `Step` over all units of a row: all operands of the overlapping last vector are read first.
template <int N, class Step>
FUSIONKIT_INLINE void for_units(const Step& step) {
  const int64_t hidden = step.hidden_size;
  if (hidden < N) {
    const Units<N> all{0, static_cast<int>(hidden)};
    step.template finish<N>(all, step.template read<N>(all));
    return;
  }
  const Units<N> last{hidden - N, N};
  const auto last_operands = step.template read<N>(last);
  for (int64_t unit = 0; unit + N <= hidden; unit += N) {
    const Units<N> units{unit, N};
    step.template finish<N>(units, step.template read<N>(units));
  }
  if (hidden % N != 0) step.template finish<N>(last, last_operands);
}

template <class Step>
FUSIONKIT_INLINE void for_all_units(const Step& step) {
  if (kLanes >= 16 && step.hidden_size >= 16) {
    for_units<(kLanes >= 16 ? 16 : 4)>(step);
  } else if (kLanes >= 8 && step.hidden_size >= 8) {
    for_units<(kLanes >= 8 ? 8 : 4)>(step);
  } else {
    for_units<4>(step);
  }
}

// From the gates before activation and the cell state before: gates in place, c and h.
struct CellForward {
  int64_t hidden_size;
  float* gates;           // (4, H): i, f, g, o
  const float* previous;  // c of the step before, or null for 0
  float* c;
  float* h;

  template <int N>
  struct Operands {
    Floats<N> i, f, g, o, previous;
  };

  template <int N>
  FUSIONKIT_INLINE Operands<N> read(Units<N> units) const {
    return {units.read(gates), units.read(gates + hidden_size), units.read(gates + 2 * hidden_size),
            units.read(gates + 3 * hidden_size),
            previous == nullptr ? Floats<N>{} : units.read(previous)};
  }

  template <int N>
  FUSIONKIT_INLINE void finish(Units<N> units, const Operands<N>& in) const {
    const Floats<N> i = sigmoid<N>(in.i), f = sigmoid<N>(in.f), g = tanh<N>(in.g);
    const Floats<N> o = sigmoid<N>(in.o);
    const Floats<N> cell = f * in.previous + i * g;
    units.write(gates, i);
    units.write(gates + hidden_size, f);
    units.write(gates + 2 * hidden_size, g);
    units.write(gates + 3 * hidden_size, o);
    units.write(c, cell);
    units.write(h, o * tanh<N>(cell));
  }
};

// From the gradients of h and c after a step: those of the gates before activation and of the cell
// state before the step.
struct CellBackward {
  int64_t hidden_size;
  const float* gates;     // (4, H) activated
  const float* c;         // after the step
  const float* previous;  // before it, or null for 0
  const float* upstream;  // gradient of h from the output
  const float* carried;   // gradient of h from the next step
  float* grad_c;          // in place
  float* grad_gates;      // (4, H)

  template <int N>
  struct Operands {
    Floats<N> i, f, g, o, c, previous, grad_h, grad_c;
  };

  template <int N>
  FUSIONKIT_INLINE Operands<N> read(Units<N> units) const {
    return {units.read(gates),
            units.read(gates + hidden_size),
            units.read(gates + 2 * hidden_size),
            units.read(gates + 3 * hidden_size),
            units.read(c),
            previous == nullptr ? Floats<N>{} : units.read(previous),
            units.read(upstream) + units.read(carried),
            units.read(grad_c)};
  }

  template <int N>
  FUSIONKIT_INLINE void finish(Units<N> units, const Operands<N>& in) const {
    const Floats<N> squashed = tanh<N>(in.c);
    const Floats<N> total = in.grad_c + in.grad_h * in.o * (1.0f - squashed * squashed);
    units.write(grad_gates, total * in.g * in.i * (1.0f - in.i));
    units.write(grad_gates + hidden_size, total * in.previous * in.f * (1.0f - in.f));
    units.write(grad_gates + 2 * hidden_size, total * in.i * (1.0f - in.g * in.g));
    units.write(grad_gates + 3 * hidden_size, in.grad_h * squashed * in.o * (1.0f - in.o));
    units.write(grad_c, total * in.f);
  }
};

}  // namespace
}  // namespace FUSIONKIT_ISA
}  // namespace fusionkit
