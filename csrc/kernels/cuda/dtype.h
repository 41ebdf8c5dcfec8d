// What the numbers of a tensor are; the kernels compute in float32 in every case.
#pragma once

namespace fk {

enum class Dtype { float32, float16, bfloat16 };

}  // namespace fk
