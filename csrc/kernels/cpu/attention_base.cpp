#include "attention.h"
#include "isa_base.h"
// The bodies come after the level.
#include "attention_backward_impl.h"
#include "attention_forward_impl.h"
